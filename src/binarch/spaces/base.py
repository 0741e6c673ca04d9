"""What a search space promises."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from binarch.errors import UserError
from binarch.nn import Binarization
from binarch.spaces.genotype import Genotype
from binarch.spaces.rules import CellRules


class Space(ABC):
    """Names and builds everything that is particular to a search space.

    A space knows what a cell may be, its primitives, how a cell prepares its two inputs, how a network begins, and what
    its auxiliary head looks like. It does not know networks. ``search=True`` asks for the supernet's form of a module:
    batch norm without affine parameters, and a batch norm behind every pool.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    #: What a cell may be: the candidates of a search, nodes, sources, output. Unless told otherwise, as in DARTS.
    rules: ClassVar[CellRules] = CellRules(
        (
            "none",
            "max_pool_3x3",
            "avg_pool_3x3",
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "dil_conv_3x3",
            "dil_conv_5x5",
        )
    )
    #: Every primitive that :meth:`primitive` builds; a search has the candidates of ``rules`` only.
    primitives: ClassVar[tuple[str, ...]] = (*rules.candidates, "sep_conv_7x7", "conv_7x1_1x7")
    #: What the convolutions binarize.
    binarization: Binarization

    @abstractmethod
    def check(self, channels: int) -> None:
        """Raise a :class:`~binarch.errors.UserError` where cells of this width cannot be built."""

    def require(self, *names: str) -> None:
        """Raise a :class:`~binarch.errors.UserError` where one of these primitives is not in the space."""
        for name in names:
            if name not in self.primitives:
                known = ", ".join(sorted(self.primitives))
                raise UserError(f"primitive: {name!r} is unknown in the {self.name} space; it has {known}")

    def check_genotype(self, genotype: Genotype) -> None:
        """Raise a :class:`~binarch.errors.UserError` where a cell has a primitive that is not in the space."""
        self.require(*(edge.primitive for cell in (genotype.normal, genotype.reduce) for edge in cell.edges))

    @abstractmethod
    def part(self, k: int) -> "Space":
        """The space whose operations, on one ``k``-th of the channels, are like this one's on all of them."""

    @abstractmethod
    def primitive(self, name: str, channels: int, stride: int, *, search: bool = False) -> nn.Module:
        """One operation, (N, C, H, W) -> (N, C, H/stride, W/stride)."""

    @abstractmethod
    def preprocess(self, inputs: int, channels: int, *, halve: bool, search: bool = False) -> nn.Module:
        """Bring a cell's input to the cell's width, and to half its resolution where ``halve`` says so."""

    @abstractmethod
    def stem(self, channels: int, *, search: bool = False, halve: bool = False) -> nn.Module:
        """First layer for small images: (N, 3, H, W) -> (N, channels, H, W), or half of both sizes; real-valued."""

    @abstractmethod
    def imagenet_stem(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """Two stems for large images: to a quarter of the resolution, then to an eighth; real-valued."""

    @abstractmethod
    def auxiliary(self, inputs: int, classes: int, *, pool_stride: int) -> nn.Module:
        """The auxiliary classifier, (N, C, H, W) -> (N, classes), with H, W of 8 or more (7 where
        the pool's stride is 2); real-valued."""
