"""Search spaces and genotypes."""

from binarch.errors import choose
from binarch.nn import Binarization
from binarch.spaces.base import Space
from binarch.spaces.bats import Bats
from binarch.spaces.darts import Darts
from binarch.spaces.genotype import Cell, Edge, Genotype
from binarch.spaces.published import PUBLISHED, Published, published

SPACES: dict[str, type[Space]] = {"bats": Bats, "darts": Darts}

__all__ = [
    "PUBLISHED",
    "SPACES",
    "Bats",
    "Cell",
    "Darts",
    "Edge",
    "Genotype",
    "Published",
    "Space",
    "build_space",
    "published",
]


def build_space(name: str, binarization: Binarization, groups: int = 12) -> Space:
    """The space called ``name``; ``groups`` are those of the bats space (darts has none)."""
    choose("space", name, SPACES)
    return Bats(binarization, groups) if name == "bats" else Darts(binarization)
