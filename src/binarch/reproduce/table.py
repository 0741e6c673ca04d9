"""A table, trained row by row and written after every run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from binarch.errors import UserError, choose
from binarch.reproduce.budget import BUDGETS, Budget
from binarch.reproduce.page import html, markdown
from binarch.reproduce.row import RecipeName, Row
from binarch.reproduce.runner import Line, Runner
from binarch.reproduce.table1 import ROWS
from binarch.runs import environment, write_atomic
from binarch.training import Display
from binarch.training.device import Device

TITLE = "Table 1 again: binarization methods"
#: Seeds that a table looks for.
_SEEDS = range(100)
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
    if seeds < 0:
        raise UserError(f"--seeds {seeds}: is not possible; use 1 or more, or 0 for the budget's number")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    runner = Runner(out, scale, display, dataset=dataset, data=data, device=device)
    for row, name in _lines():
        runner.check(row, name, _SEEDS)
    plan = [(row, name, _seeds(row, seeds, scale.seeds)) for row in chosen for name in row.recipes if name in recipes]
    most = max((count for _, _, count in plan), default=0)
    for seed in range(most):  # a first seed of all rows before a second one of any
        for row, recipe, count in plan:
            if seed < count:
                runner.train(row, recipe, seed)
                _write(runner, out, budget, scale, timed=False)
    return _write(runner, out, budget, scale, timed=True)


def _seeds(row: Row, asked: int, of_budget: int) -> int:
    return asked or (of_budget if row.one_bit else 1)


def _lines() -> list[tuple[Row, RecipeName]]:
    return [(row, recipe) for row in ROWS.values() for recipe in row.recipes]


def _write(runner: Runner, out: Path, budget: str, scale: Budget, *, timed: bool) -> dict[str, Any]:
    """Write what is finished; one image is timed at the end only."""
    found = [runner.line(row, recipe, _SEEDS, timed=timed) for row, recipe in _lines()]
    lines: list[Line] = [line for line in found if line is not None]
    images = f"{scale.limit:,} training images" if scale.limit else "all training images"
    notes = [
        f"Budget {budget}: {scale.description}. {runner.dataset}, {images} of {scale.image_size} pixels.",
        "Ours: test accuracy after the last epoch, mean ± sd over n seeds; the test set was read once per run. Recipe "
        "own: the method's published one, as far as it is known; common: VGG-small with real first and last layers, "
        "AdamW, the same for all. Packed size and time of one image: of the first seed's network, one thread; times "
        "were taken on a machine that may have been busy.",
        *(() if budget == "paper" else (_SHORT,)),
        "Written by binarch reproduce table1.",
    ]
    env = environment()
    notes.append(f"{env['cpu']}, {env['cpu_capability']}, torch {env['torch']}, {env['date'][:10]}.")
    write_atomic(out / "table.md", markdown(TITLE, notes, ROWS, lines))
    write_atomic(out / "table.html", html(TITLE, notes, ROWS, lines))
    record = {"budget": budget, "lines": [line.to_dict() for line in lines], "env": env}
    write_atomic(out / "table.json", json.dumps(record, indent=1) + "\n")
    return {"runs": sum(len(line.accuracies) for line in lines), "table": str(out / "table.md")}
