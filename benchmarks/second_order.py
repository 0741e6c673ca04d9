"""Time the search step of the second order against that of the first.

    python benchmarks/second_order.py --out results/second-order

A step is a whole one: alphas, then weights, optimizers included, through the fast supernet. Steps of both orders take
turns, and the ratio is taken within each turn, so that a machine that changes its speed changes it for both.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from binarch.data import DataConfig, load
from binarch.runs import RunFolder, environment
from binarch.search import SearchConfig
from binarch.search.differentiable import halves
from binarch.search.search_task import SearchTask
from binarch.training.device import make_fabric

#: Space and binarization of each row.
SETTINGS = {"darts, real": ("darts", "none"), "bats, real": ("bats", "none"), "bats, binary": ("bats", "activations")}


@dataclass
class Benchmark:
    """Shape of the supernet and of the measurement."""

    out: Path | None = None
    cells: int = 5
    channels: int = 8
    groups: int = 4
    image_size: int = 16
    batch: int = 32
    rounds: int = 7
    threads: int = 2


def stepper(settings: Benchmark, space: str, binarize: str, strategy: str) -> Callable[[], float]:
    """A function that takes one step and returns its milliseconds per image."""
    config = SearchConfig(
        data=DataConfig(image_size=settings.image_size, limit=max(40, 4 * settings.batch)), cells=(settings.cells,),
        channels=settings.channels, groups=settings.groups, batch_size=settings.batch, strategy="darts", space="darts",
        device="cpu",
    )  # fmt: skip
    config = replace(config, space=space, binarize=binarize, strategy=strategy)  # type: ignore[arg-type]
    dataset = load(config.data)
    fabric = make_fabric(config.device, config.precision)
    folder = RunFolder(Path(tempfile.gettempdir()) / "nothing is written here")
    task = SearchTask(config, 0, 0, dataset, halves(dataset, fabric), fabric, folder, None)

    def step() -> float:
        started = time.perf_counter()
        task.step(0, 0)
        return (time.perf_counter() - started) / settings.batch * 1e3

    return step


def main(settings: Benchmark) -> None:
    """Measure, print a table, and write it with ``--out``."""
    torch.set_num_threads(settings.threads)
    record: dict[str, dict[str, list[float]]] = {}
    lines = ["| supernet | first order, ms per image | second order | ratio (least - most) |", "|---|---:|---:|---:|"]
    for name, (space, binarize) in SETTINGS.items():
        steps = [stepper(settings, space, binarize, strategy) for strategy in ("darts", "darts-second")]
        for step in steps:
            step()
        times = [[step() for step in steps] for _ in range(settings.rounds)]
        first, second = zip(*times, strict=True)
        ratios = [two / one for one, two in times]
        record[name] = {"first": list(first), "second": list(second), "ratios": ratios}
        lines.append(
            f"| {name} | {statistics.median(first):.1f} | {statistics.median(second):.1f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) |"
        )
    env = environment()
    shape = (
        f"{settings.cells} cells, {settings.channels} channels, {settings.groups} groups, "
        f"{settings.image_size} pixels, "
        f"batches of {settings.batch}, {settings.threads} threads, {settings.rounds} rounds; "
        f"{env['cpu']}, {env['cpu_capability']}, torch {env['torch']}, {env['date'][:10]}"
    ).replace("1 threads", "1 thread")
    table = "\n".join(["# A step of the second order", "", shape, "", *lines, ""])
    print(table)
    if settings.out is not None:
        settings.out.mkdir(parents=True, exist_ok=True)
        (settings.out / "README.md").write_text(table)
        (settings.out / "times.json").write_text(json.dumps({"times": record, "env": env}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
