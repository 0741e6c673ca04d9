"""Table 2, made row by row and written after every run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from binarch.errors import UserError, choose
from binarch.models import Architecture, find_architecture
from binarch.reproduce.dots import dot_plot
from binarch.reproduce.page import Page
from binarch.reproduce.runs import SEEDS, Runs, check_seeds
from binarch.reproduce.table2.budget import BUDGETS, Budget
from binarch.reproduce.table2.line import TITLES, Line, read_line
from binarch.reproduce.table2.system import Mode, System
from binarch.reproduce.table2.systems import SYSTEMS
from binarch.reproduce.table2.twin import twin
from binarch.runs import environment, write_atomic
from binarch.spaces import Genotype
from binarch.training import Display
from binarch.training.device import Device

TITLE = "Table 2 again: systems and their searches"
_SHORT = (
    "At this scale all rows are searched and trained alike, in few epochs on small images: nothing here says how good "
    "a system gets."
)


def reproduce_table2(
    out: Path,
    *,
    rows: Sequence[str],
    modes: Sequence[str],
    budget: str,
    seeds: int,
    dataset: str,
    data: Path | None,
    device: Device,
    workers: int,
    display: Display,
) -> dict[str, Any]:
    """Make the named rows (none named: all) in the named modes; write table.md, table.html, table.json to ``out``.

    A row in a mode is a search (once), trainings of its cell with seeds 0, 1, ..., and a training of as many random
    cells of that size. Runs that are finished are read back, so the command can be stopped and given again, and several
    of them can work on different rows in one folder (both rows of BATS share a search, so they are for one of them). A
    run of other settings is refused.
    """
    chosen = [SYSTEMS[choose("--rows", name, SYSTEMS)] for name in rows or SYSTEMS]
    for name in modes:
        choose("--modes", name, get_args(Mode))
    scale = BUDGETS[choose("--budget", budget, BUDGETS)]
    check_seeds(seeds)
    runs = Runs(out, display, table="table2", dataset=dataset, data=data, device=device, workers=workers)
    table = _Table(runs, scale, budget)
    table.check()
    plan = [(system, mode) for system in chosen for mode in system.modes if mode in modes]
    if not plan:
        known = "; ".join(f"{system.name}: {' '.join(system.modes)}" for system in chosen)
        raise UserError(f"--modes {' '.join(modes)}: the rows have none of these ({known}); choose others")
    for seed in range(seeds or scale.seeds):  # a first seed of all rows before a second one of any
        for system, mode in plan:
            table.make(system, mode, seed)
            table.write()
    return table.write()


class _Table:
    """The runs of the table at one scale."""

    def __init__(self, runs: Runs, scale: Budget, budget: str) -> None:
        self.runs, self.scale, self.budget = runs, scale, budget

    def check(self) -> None:
        """Refuse runs of other settings."""
        for system in SYSTEMS.values():
            for mode in system.modes:
                searched = system.searched(mode)
                if searched is not None:
                    self.runs.check(_search(system, mode), self.scale.search(searched.search))
                for seed in SEEDS:
                    for name in (_training(system, mode, seed), _twin(system, mode, seed)):
                        self.runs.check(name, self.scale.train(system.training(mode), seed))

    def make(self, system: System, mode: Mode, seed: int) -> None:
        """The search where there is one, one training of its cell, one of a random cell of that size."""
        config = self.scale.train(system.training(mode), seed)
        title = f"{system.method} ({system.name}), {mode}"
        arch = self._architecture(system, mode, title)
        self.runs.train(_training(system, mode, seed), f"{title}, seed {seed}", arch, config)
        if system.searched(mode) is None or not isinstance(arch, Genotype):
            return
        name = _twin(system, mode, seed)
        if not self.runs.finished(name):
            other = twin(arch, config.network, f"{system.name}-{mode}", seed)
            self.runs.train(name, f"{title}, random cell of that size, seed {seed}", other, config)

    def _architecture(self, system: System, mode: Mode, title: str) -> Architecture:
        searched = system.searched(mode)
        if searched is not None:
            return self.runs.search(_search(system, mode), f"{title}, search", self.scale.search(searched.search))
        assert system.published is not None
        return find_architecture(system.published.arch if self.scale.small is None else system.published.small)

    def lines(self) -> list[Line]:
        """Whatever is finished."""
        found = []
        for system in SYSTEMS.values():
            for mode in system.modes:
                search = self.runs.folder(_search(system, mode)) if system.searched(mode) is not None else None
                trained, twins = (
                    [self.runs.folder(name(system, mode, seed)) for seed in SEEDS
                     if self.runs.finished(name(system, mode, seed))]
                    for name in (_training, _twin)
                )  # fmt: skip
                found.append(read_line(system, mode, search, trained, twins))
        return [line for line in found if line is not None]

    def write(self) -> dict[str, Any]:
        """Write what is finished."""
        lines, env, runs = self.lines(), environment(), self.runs
        small = self.scale.small
        images = f"{small.limit:,} training images of {small.image_size} pixels" if small else "all training images"
        notes = [
            f"Budget {self.budget}: {self.scale.description}. {runs.dataset}, {images}.",
            "Test error after the last epoch, mean ± sd over n trainings; the test set was read once per training. "
            "Published: the published cells, trained anew. Real, binary: cells of one search of ours. Random: one "
            "training of each of n random cells of the same space and size. The first sd is over trainings of one "
            "cell, the second over cells and their trainings; a difference within them says nothing, one beyond them "
            "speaks of this one search. Both rows of BATS share their real-valued search. Depth: edges on the longest "
            "path through the normal cell; 5x5: their share among both cells' convolutions.",
            *((_SHORT, small.told) if small else ()),
            "Written by binarch reproduce table2.",
            f"{env['cpu']}, {env['cpu_capability']}, torch {env['torch']}, {env['date'][:10]}.",
        ]  # fmt: skip
        shown = dict.fromkeys(line.system for line in lines)
        differs = {} if small else {f"{SYSTEMS[name].method} ({name})": SYSTEMS[name].deviations for name in shown}
        rows = [line.texts(SYSTEMS[line.system]) for line in lines]
        Page(TITLE, notes, TITLES, rows, frozenset({"system", "ours"}), picture(lines), differs).write(
            runs.out, "table"
        )
        record = {"table": runs.table, "budget": self.budget, "lines": [line.to_dict() for line in lines], "env": env}
        write_atomic(runs.out / "table.json", json.dumps(record, indent=1) + "\n")
        count = sum(len(line.errors) + len(line.twin_errors) for line in lines)
        return {"runs": count, "table": str(runs.out / "table.md")}


def _search(system: System, mode: Mode) -> str:
    """The run that searches for a system; rows of the same search share it."""
    own = system.searched(mode)
    assert own is not None
    first = next(other for other in SYSTEMS.values() if (o := other.searched(mode)) and o.search == own.search)
    return f"{first.name}-{mode}-search"


def _training(system: System, mode: Mode, seed: int) -> str:
    return f"{system.name}-{mode}-{seed}"


def _twin(system: System, mode: Mode, seed: int) -> str:
    return f"{system.name}-{mode}-random-{seed}"


def picture(lines: Sequence[Line]) -> Figure:
    """A dot per training: found cells filled, random cells of their size hollow."""
    colours = {"published": "#666666", "real": "#1f5fa8", "binary": "#c4641a"}

    def draw(axes: Axes) -> None:
        for place, line in enumerate(lines):
            twins, own = line.twin_errors, line.errors
            axes.plot(twins, [place + 0.12] * len(twins), "o", color=colours[line.mode], markerfacecolor="none")
            axes.plot(own, [place - 0.12] * len(own), "o", color=colours[line.mode])
        axes.plot([], [], "o", color="#444444", label="the system's cell")
        axes.plot([], [], "o", color="#444444", markerfacecolor="none", label="random cells of its size")

    return dot_plot([f"{line.system}, {line.mode}" for line in lines], 0.36, "test error, %", draw)
