"""CIFAR-10 on two cores: search with `bats` and with `random` under one budget, train both cells with three seeds.

    python benchmarks/cifar10_cpu.py --data PATH --out results/cifar10-cpu

Everything is the recipe `cifar10-cpu`; meant to take 25 minutes for each search, 15 for each of the six trainings. What
is finished is read back, and what was stopped is continued, so the study can be run in pieces, for example one process
per strategy and core: `--strategies bats` beside `--strategies random`, then once more with both for the table.
"""

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from binarch.data import load
from binarch.recipes import RECIPES
from binarch.report import save_drawing, write_report
from binarch.runs import RunFolder, environment
from binarch.search import search
from binarch.spaces import Genotype
from binarch.training import Display, train


@dataclass
class Study:
    """Where the data lie and where the results go."""

    data: Path
    out: Path
    recipe: str = "cifar10-cpu"
    seeds: tuple[int, ...] = (0, 1, 2)
    strategies: tuple[str, ...] = ("bats", "random")


def main(study: Study) -> None:
    """Run what is missing, then write the table."""
    recipe = RECIPES[study.recipe]
    display = Display()
    settings = replace(recipe.search, data=replace(recipe.search.data, data=study.data))
    training = replace(recipe.train, data=replace(recipe.train.data, data=study.data))
    found: dict[str, Genotype] = {}
    for strategy in study.strategies:
        folder = RunFolder(study.out / strategy)
        config = replace(settings, strategy=strategy)
        found[strategy] = search(config, load(config.data), folder, display, resume=True)
        save_drawing(found[strategy], folder / "cells.svg", config.space, title=f"found by {strategy}")
        write_report(folder.path)
    dataset = load(training.data)
    results: dict[str, list[dict[str, Any]]] = {strategy: [] for strategy in found}
    for seed in study.seeds:
        for strategy, genotype in found.items():
            folder = RunFolder(study.out / f"{strategy}-train-{seed}")
            done = train(genotype, replace(training, seed=seed), dataset, folder, display, resume=True)
            write_report(folder.path)
            results[strategy].append(done)
    if len(results) < 2:
        return  # a table compares
    page = _page(study, results)
    (study.out / "README.md").write_text(page)
    (study.out / "env.json").write_text(json.dumps(environment(), indent=1) + "\n")
    print(page)


def _page(study: Study, results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        f"# Recipe `{study.recipe}`: a searched cell against the best of random ones",
        "",
        "1-bit weights and activations; test accuracy after the last epoch, in percent; the test set was read once per",
        f"training. Seeds {', '.join(map(str, study.seeds))}. Written by `benchmarks/cifar10_cpu.py`.",
        "",
        "| cell | test accuracy, mean ± sd | each seed | parameters | binary MACs | search, min | training, min |",
        "|---|---|---|---|---|---|---|",
    ]
    means = {}
    for strategy, runs in results.items():
        scores = [100 * run["test_accuracy"] for run in runs]
        means[strategy] = statistics.mean(scores)
        searched = RunFolder(study.out / strategy).read_json("result.json")
        seconds = searched.get("search_seconds", 0) + searched.get("rank_seconds", 0)
        minutes = statistics.mean(run["train_seconds"] for run in runs) / 60
        cells = [
            strategy,
            f"{means[strategy]:.2f} ± {statistics.stdev(scores) if len(scores) > 1 else 0:.2f}",
            " ".join(f"{score:.2f}" for score in scores),
            f"{runs[0]['costs']['params']:,}",
            f"{runs[0]['costs']['binary_macs']:,}",
            f"{seconds / 60:.1f}",
            f"{minutes:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    winner = max(means, key=lambda strategy: means[strategy])
    lines += ["", f"The higher mean is that of `{winner}`, by {abs(means['bats'] - means['random']):.2f} points.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Study))
