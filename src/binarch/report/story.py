"""What a run folder tells: its files, read with tolerance.

A report is most wanted where something went wrong, so nothing here insists: a missing file is an empty part,
a damaged one is named in ``damaged``, a value of an unexpected type is passed over.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from binarch.errors import UserError
from binarch.spaces.genotype import Genotype

_FILES: Final = ("config.json", "env.json", "metrics.jsonl", "result.json", "genotype.json")
_DEPTH: Final = 3

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One folder's content; ``children`` are the runs inside it, in natural order of their names."""

    folder: Path
    config: Row
    environment: Row
    result: Row
    metrics: tuple[Row, ...]
    genotype: Genotype | None
    genotypes: tuple[tuple[int, Genotype], ...]
    children: tuple["Run", ...]
    damaged: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def child(self, name: str) -> "Run | None":
        """The direct child called ``name``."""
        return next((run for run in self.children if run.name == name), None)

    def rows(self, phase: str) -> list[Row]:
        """The recorded epochs of ``phase``, "search" or "train"."""
        return [row for row in self.metrics if row.get("phase") == phase]

    def descendants(self) -> Iterator["Run"]:
        """Children, and theirs."""
        for child in self.children:
            yield child
            yield from child.descendants()


def read_run(folder: Path) -> Run:
    """Read ``folder``; one that holds nothing of a run is a :class:`~binarch.errors.UserError`."""
    run = _read(folder, _DEPTH)
    files = any((folder / name).is_file() for name in _FILES)
    if not files and not run.genotypes and not run.children:
        raise UserError(
            f"{folder}: no run folder; none of {', '.join(_FILES)} is in it; give a folder that a run wrote"
        )
    return run


def phase_of(run: Run, phase: str) -> Run:
    """The run that tells ``phase``: a demo keeps its search and its training in children of these names."""
    own = run.child(phase)
    return own if own is not None and not run.rows(phase) else run


def phase_rows(run: Run, phase: str) -> list[tuple[str, list[Row]]]:
    """(name, rows) per curve: the seeds of ``run``'s own record, or else those of its ``seed-*`` children."""
    rows = run.rows(phase)
    if not rows:
        seeds = [child for child in run.children if child.name.startswith("seed-")]
        return [(child.name, child.rows(phase)) for child in seeds if child.rows(phase)]
    curves: dict[str, list[Row]] = {}
    for row in rows:
        curves.setdefault(f"seed-{row.get('seed', 0)}", []).append(row)
    return list(curves.items())


def number(value: object) -> float | None:
    """``value`` if it is a finite number, else ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def mapping(value: object) -> Row:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def _read(folder: Path, depth: int) -> Run:
    damaged: list[str] = []
    children: list[Run] = []
    if depth and folder.is_dir():
        inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=_natural)
        children = [_read(path, depth - 1) for path in inside if (path / "config.json").is_file()]
    genotype = _genotype(folder / "genotype.json", damaged)
    per_epoch = []
    for path in sorted(folder.glob("genotypes/epoch_*.json"), key=_natural):
        found = _genotype(path, damaged)
        epoch = path.stem.removeprefix("epoch_")
        if found is not None and epoch.isdecimal():
            per_epoch.append((int(epoch), found))
    return Run(
        folder,
        config=_object(folder / "config.json", damaged),
        environment=_object(folder / "env.json", damaged),
        result=_object(folder / "result.json", damaged),
        metrics=_lines(folder / "metrics.jsonl", damaged),
        genotype=genotype,
        genotypes=tuple(per_epoch),
        children=tuple(children),
        damaged=tuple(damaged),
    )


def _natural(path: Path) -> tuple[str, int, str]:
    """Sorts seed-2 before seed-10."""
    stem = path.stem.rstrip("0123456789")
    digits = path.stem[len(stem) :]
    return stem, int(digits or 0), path.name


def _object(path: Path, damaged: list[str]) -> Row:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, Mapping):
        damaged.append(f"{path.name} cannot be read and is left out")
    return mapping(value)


def _lines(path: Path, damaged: list[str]) -> tuple[Row, ...]:
    if not path.is_file():
        return ()
    rows, bad = [], 0
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text, bad = "", 1
    for line in filter(str.strip, text.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        rows.append(mapping(value))
        bad += not isinstance(value, Mapping)
    if bad:
        damaged.append(f"{path.name}: {bad} of {len(rows) or 1} epochs cannot be read and are left out")
    return tuple(row for row in rows if row)


def _genotype(path: Path, damaged: list[str]) -> Genotype | None:
    if not path.is_file():
        return None
    try:
        return Genotype.load(path)
    except (UserError, OSError) as error:
        damaged.append(f"{path.name} is left out: {str(error).removeprefix(f'{path}: ')}")
        return None
