"""Sweep the softmax temperature of the search: entropy, and the gap between supernet and derived network.

    python benchmarks/temperature.py --out results/temperature-digits
    python benchmarks/temperature.py --recipe cifar10-cpu --data PATH --limit 4000 --out results/temperature-cifar10

Every run is a search of the recipe with another temperature and seed, nothing else changed. Runs that are finished are
read back, so the sweep can be stopped and started again.
"""

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import tyro
from matplotlib.figure import Figure

from binarch.data import load
from binarch.recipes import RECIPES
from binarch.runs import RunFolder, environment, to_plain
from binarch.search.differentiable import search_gradient
from binarch.training import Display

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)


@dataclass
class Sweep:
    """What to sweep and where to keep it."""

    out: Path
    recipe: str = "digits"
    data: Path | None = None
    limit: int | None = None
    epochs: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)


def main(sweep: Sweep) -> None:
    """Run the sweep and write ``sweep.json``, ``README.md`` and ``sweep.png``."""
    config = RECIPES[sweep.recipe].search
    config = replace(config, data=replace(config.data, data=sweep.data, limit=sweep.limit or config.data.limit))
    if sweep.epochs is not None:
        config = replace(config, epochs=(sweep.epochs,))
    dataset = load(config.data)
    rows = []
    for temperature in TEMPERATURES:
        for seed in sweep.seeds:
            folder = RunFolder(sweep.out / "runs" / f"tau-{temperature}-seed-{seed}")
            search_gradient(replace(config, temperature=temperature), seed, dataset, folder, Display())
            last, result = folder.metrics()[-1], folder.read_json("result.json")
            rows.append(
                {
                    "temperature": temperature,
                    "seed": seed,
                    "entropy": (last["entropy_normal"] + last["entropy_reduce"]) / 2,
                    "entropy_max": last["entropy_max"],
                    "supernet": result["supernet_validation_accuracy"],
                    "derived": result["derived_validation_accuracy"],
                    "parameter_free": (last["parameter_free_normal"] + last["parameter_free_reduce"]) / 2,
                }
            )
    settings = {"config": to_plain(replace(config, data=replace(config.data, data=None))), "env": environment()}
    (sweep.out / "sweep.json").write_text(json.dumps({"rows": rows, **settings}, indent=1) + "\n")
    (sweep.out / "README.md").write_text(_page(sweep, rows))
    _plot(rows).savefig(sweep.out / "sweep.png", dpi=150)
    print((sweep.out / "README.md").read_text())


def _of(rows: list[dict], temperature: float, key: str) -> list[float]:
    return [row[key] for row in rows if row["temperature"] == temperature]


def _mean_sd(values: list[float], scale: float = 1.0, digits: int = 1) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{scale * statistics.mean(values):.{digits}f} ± {scale * sd:.{digits}f}"


def _page(sweep: Sweep, rows: list[dict]) -> str:
    lines = [
        f"# Temperature sweep, recipe `{sweep.recipe}`",
        "",
        f"Seeds {', '.join(map(str, sweep.seeds))}; mean ± sd. Entropy in nats (most possible: "
        f"{rows[0]['entropy_max']:.2f}). Accuracies are of the validation half of the training images, in percent:",
        "of the supernet's mixture, and of the same weights with only the derived edges (the gap is their difference).",
        "Written by `benchmarks/temperature.py`; settings and machine in `sweep.json`.",
        "",
        "| temperature | entropy | supernet | derived, same weights | gap | parameter-free edges |",
        "|---|---|---|---|---|---|",
    ]
    for t in TEMPERATURES:
        gaps = [a - b for a, b in zip(_of(rows, t, "supernet"), _of(rows, t, "derived"), strict=True)]
        cells = [
            f"{t:g}",
            _mean_sd(_of(rows, t, "entropy"), digits=2),
            *(_mean_sd(_of(rows, t, key), 100) for key in ("supernet", "derived")),
            _mean_sd(gaps, 100),
            _mean_sd(_of(rows, t, "parameter_free"), 100, 0),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "![sweep](sweep.png)", ""])


def _plot(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, axes in (("entropy", left), ("supernet", right), ("derived", right)):
        axes.plot(TEMPERATURES, [statistics.mean(_of(rows, t, key)) for t in TEMPERATURES], marker="o", label=key)
        axes.scatter([row["temperature"] for row in rows], [row[key] for row in rows], s=12, alpha=0.5)
        axes.set_xscale("log")
        axes.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("temperature")
        axes.spines[["top", "right"]].set_visible(False)
    left.axhline(rows[0]["entropy_max"], color="grey", linestyle=":", label="most possible")
    left.set_ylabel("entropy of the mixture (nats)")
    right.set_ylabel("validation accuracy")
    for axes in (left, right):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Sweep))
