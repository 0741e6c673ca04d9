"""Table 1, trained row by row and written after every run."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from binarch.errors import UserError, choose
from binarch.models import find_architecture
from binarch.reproduce.dots import dot_plot
from binarch.reproduce.page import Page
from binarch.reproduce.runs import SEEDS, Runs, check_seeds
from binarch.reproduce.table1.budget import BUDGETS, Budget
from binarch.reproduce.table1.line import TITLES, Line, read_line
from binarch.reproduce.table1.row import RecipeName, Row
from binarch.reproduce.table1.rows import ROWS
from binarch.runs import environment, write_atomic
from binarch.training import Display, TrainConfig
from binarch.training.device import Device

TITLE = "Table 1 again: binarization methods"
#: What a small budget does not say.
_SHORT = (
    "Compare methods by the common recipe. The own recipes were made for hundreds of epochs: squeezed into a few, they "
    "say whether a method trains, not how well."
)


def reproduce_table1(
    out: Path,
    *,
    rows: Sequence[str],
    recipes: Sequence[str],
    budget: str,
    seeds: int,
    dataset: str,
    data: Path | None,
    device: Device,
    display: Display,
) -> dict[str, Any]:
    """Train the named rows (none named: all) with seeds 0, 1, ...; write table.md, table.html, table.json to ``out``.

    Runs that are finished are read back, so the command can be stopped and given again, and several of them can work on
    different rows in one folder. The table holds whatever is finished there; a run of other settings is refused.
    """
    chosen = [ROWS[choose("--rows", name, ROWS)] for name in rows or ROWS]
    for name in recipes:
        choose("--recipes", name, get_args(RecipeName))
    scale = BUDGETS[choose("--budget", budget, BUDGETS)]
    check_seeds(seeds)
    runs = Runs(out, display, table="table1", dataset=dataset, data=data, device=device)
    for row, name in _lines():
        for seed in SEEDS:
            runs.check(_name(row, name, seed), _config(scale, row, name, seed))
    plan = [(row, name, _seeds(row, seeds, scale.seeds)) for row in chosen for name in row.recipes if name in recipes]
    if not plan:
        known = "; ".join(f"{row.name}: {' '.join(row.recipes)}" for row in chosen)
        raise UserError(f"--recipes {' '.join(recipes)}: the rows have none of these ({known}); choose others")
    most = max((count for _, _, count in plan))
    for seed in range(most):  # a first seed of all rows before a second one of any
        for row, recipe, count in plan:
            if seed < count:
                title = f"{row.method} ({row.name}), {recipe} recipe, seed {seed}"
                arch = find_architecture(row.recipes[recipe].arch)
                runs.train(_name(row, recipe, seed), title, arch, _config(scale, row, recipe, seed))
                _write(runs, budget, packed=False)
    return _write(runs, budget, packed=True)


def _name(row: Row, recipe: RecipeName, seed: int) -> str:
    return f"{row.name}-{recipe}-{seed}"


def _config(scale: Budget, row: Row, recipe: RecipeName, seed: int) -> TrainConfig:
    return replace(scale.train_config(row.recipes[recipe]), seed=seed)


def _seeds(row: Row, asked: int, of_budget: int) -> int:
    return asked or (of_budget if row.one_bit else 1)


def _lines() -> list[tuple[Row, RecipeName]]:
    return [(row, recipe) for row in ROWS.values() for recipe in row.recipes]


def _write(runs: Runs, budget: str, *, packed: bool) -> dict[str, Any]:
    """Write what is finished; networks are packed and timed at the end only."""
    scale = BUDGETS[budget]
    lines: list[Line] = []
    for row, recipe in _lines():
        done = [runs.folder(_name(row, recipe, seed)) for seed in SEEDS if runs.finished(_name(row, recipe, seed))]
        line = read_line(row, recipe, _config(scale, row, recipe, 0).network.width, done, packed=packed)
        lines += [] if line is None else [line]
    images = f"{scale.limit:,} training images" if scale.limit else "all training images"
    env = environment()
    notes = [
        f"Budget {budget}: {scale.description}. {runs.dataset}, {images} of {scale.image_size} pixels.",
        "Ours: test accuracy after the last epoch, mean ± sd over n seeds; the test set was read once per run. Recipe "
        "own: the method's published one, as far as it is known; common: VGG-small with real first and last layers, "
        "AdamW, the same for all. Packed size and time of one image: of the first seed's network, one thread; times "
        "were taken on a machine that may have been busy.",
        *(() if budget == "paper" else (_SHORT,)),
        "Written by binarch reproduce table1.",
        f"{env['cpu']}, {env['cpu_capability']}, torch {env['torch']}, {env['date'][:10]}.",
    ]
    shown = dict.fromkeys(line.row for line in lines)
    page = Page(
        TITLE,
        notes,
        TITLES,
        [line.texts(ROWS[line.row]) for line in lines],
        frozenset({"method", "recipe", "network"}),
        picture(lines),
        {f"{ROWS[name].method} ({name})": ROWS[name].deviations for name in shown},
    )
    page.write(runs.out, "table")
    record = {"table": runs.table, "budget": budget, "lines": [line.to_dict() for line in lines], "env": env}
    write_atomic(runs.out / "table.json", json.dumps(record, indent=1) + "\n")
    return {"runs": sum(len(line.accuracies) for line in lines), "table": str(runs.out / "table.md")}


def picture(lines: Sequence[Line]) -> Figure:
    """A dot per run: our accuracies beside those that were published on CIFAR-10."""
    names = list(dict.fromkeys(line.row for line in lines))

    def draw(axes: Axes) -> None:
        for place, name in enumerate(names):
            axes.plot(ROWS[name].published, place, "D", color="#888888", markersize=7, markerfacecolor="none")
        for recipe, colour, shift in (("own", "#1f5fa8", -0.14), ("common", "#c4641a", 0.14)):
            dots = [(score, names.index(line.row) + shift) for line in lines if line.recipe == recipe
                    for score in line.accuracies]  # fmt: skip
            if dots:
                axes.plot(*zip(*dots, strict=True), "o", color=colour, markersize=5, label=f"ours, {recipe} recipe")
        axes.plot([], [], "D", color="#888888", markerfacecolor="none", label="published on CIFAR-10")

    return dot_plot([f"{ROWS[name].method} {ROWS[name].bits}" for name in names], 0.42, "test accuracy, %", draw)
