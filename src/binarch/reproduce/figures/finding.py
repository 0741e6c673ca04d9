"""What finished searches left in their folders."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final, get_args

from binarch.errors import UserError
from binarch.nn import Binarize
from binarch.runs import WHERE, read_settings
from binarch.search import binarization_of
from binarch.spaces import Genotype


@final
@dataclass(frozen=True)
class Finding:
    """The cells that one search chose, and the settings that it was asked with (``data.dataset`` and so on)."""

    folder: Path
    settings: Mapping[str, Any]
    binarization: str
    """What carried one bit: none, activations, both."""
    genotype: Genotype

    @property
    def binary(self) -> bool:
        """Whether anything carried one bit during the search."""
        return self.binarization != "none"

    @property
    def strategy(self) -> str:
        """How the cells were chosen."""
        return str(self.settings["strategy"])

    @property
    def space(self) -> str:
        """What the primitives' names stand for."""
        return str(self.settings["space"])

    @property
    def seeds(self) -> str:
        """The seeds among which the search chose."""
        return " ".join(map(str, self.settings["seed"]))

    def to_dict(self) -> dict[str, Any]:
        """For figures.json."""
        told = {"folder": str(self.folder), "binarization": self.binarization, "strategy": self.strategy}
        return {**told, "space": self.space, "seeds": self.seeds, "genotype": self.genotype.to_dict()}


def find_searches(folders: Sequence[Path]) -> list[Finding]:
    """Every finished search in and below ``folders``, by name; one that lies there twice is given once.

    A search is a folder with a ``config.json`` of verb "search", finished when its ``genotype.json`` is there too. A
    search of several seeds is one finding, the cells that it chose. Folders without any are a :class:`UserError`.
    """
    found: dict[tuple[str, Genotype], Finding] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--cells {folder}: is no folder; give folders of binarch search")
        here = list(_below(folder))
        if not here:
            raise UserError(f"--cells {folder}: holds no finished search; make one with binarch search --out {folder}")
        for finding in here:
            own = {name: value for name, value in finding.settings.items() if name.rpartition(".")[2] not in WHERE}
            found.setdefault((json.dumps(own, sort_keys=True), finding.genotype), finding)
    return sorted(found.values(), key=lambda finding: str(finding.folder))


def _below(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.rglob("config.json")):
        genotype = path.with_name("genotype.json")
        config = read_settings(path) if genotype.is_file() else {}
        if config.get("verb") == "search":
            yield _read(path, config, Genotype.load(genotype))


def _read(path: Path, config: Mapping[str, Any], genotype: Genotype) -> Finding:
    missing = [name for name in ("strategy", "space", "binarize", "seed") if name not in config]
    if missing:
        raise UserError(f"{path}: does not say {missing[0]}; give folders of binarch search")
    settings = {name: value for name, value in config.items() if name != "data"}
    settings |= {f"data.{name}": value for name, value in dict(config.get("data") or {}).items()}
    if config["binarize"] not in (None, *get_args(Binarize)):
        raise UserError(f"{path}: binarize: {config['binarize']!r} is unknown; give folders of binarch search")
    kind = binarization_of(config["binarize"], config["space"], config["strategy"])
    return Finding(path.parent, settings, kind, genotype)
