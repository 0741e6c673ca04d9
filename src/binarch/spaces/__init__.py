"""Search spaces and genotypes."""

from contextlib import suppress
from pathlib import Path

from binarch.errors import UserError, choose
from binarch.nn import Binarization
from binarch.spaces.base import Space
from binarch.spaces.bats import Bats
from binarch.spaces.darts import Darts
from binarch.spaces.genotype import Cell, Edge, Genotype
from binarch.spaces.nasnet import Nasnet
from binarch.spaces.published import PUBLISHED, Published, published
from binarch.spaces.rules import CellRules

SPACES: dict[str, type[Space]] = {"bats": Bats, "darts": Darts, "nasnet": Nasnet}

__all__ = [
    "PUBLISHED",
    "SPACES",
    "Bats",
    "Cell",
    "CellRules",
    "Darts",
    "Edge",
    "Genotype",
    "Nasnet",
    "Published",
    "Space",
    "build_space",
    "find_genotype",
    "published",
]


def build_space(name: str, binarization: Binarization, groups: int = 12) -> Space:
    """The space called ``name``; ``groups`` are those of the bats space (the others have none)."""
    choose("space", name, SPACES)
    if name == "bats":
        return Bats(binarization, groups)
    return Darts(binarization) if name == "darts" else Nasnet(binarization)


def find_genotype(name: str) -> Genotype:
    """The genotype behind a published name, a genotype file, or a run folder."""
    if name in PUBLISHED:
        return published(name)
    path = Path(name)
    with suppress(OSError):  # a name that no file system takes is no path either
        if path.is_dir():
            return Genotype.load(path / "genotype.json")
        if path.is_file():
            return Genotype.load(path)
    raise UserError(
        f"arch: {name!r} is neither a published name ({', '.join(PUBLISHED)}) nor a genotype file nor a run folder"
    )
