"""The settings of a cell network."""

from dataclasses import dataclass
from typing import Literal, final

from binarch.models.cell_network import CellNetwork
from binarch.nn import Binarization, Binarize
from binarch.spaces import Genotype, Space, build_space


@final
@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network around the cells."""

    space: Literal["bats", "darts"] = "bats"
    """Which operations the primitives' names stand for."""
    cells: int = 20
    """Number of cells; the ones at a third and two thirds halve the resolution."""
    channels: int = 36
    """Width of the first cells; doubles at each reduction."""
    groups: int = 12
    """Convolution groups of the bats space."""
    output_scale: bool = False
    """Learn one factor per output channel of every cell convolution."""
    auxiliary: bool = False
    """Add the auxiliary head (training only; images of 32 pixels or more)."""

    def build_space(self, binarize: Binarize) -> Space:
        """The space with its convolutions set to ``binarize``."""
        return build_space(self.space, Binarization(binarize, self.output_scale), self.groups)

    def build(self, genotype: Genotype, classes: int, binarize: Binarize) -> CellNetwork:
        """The network of ``genotype``."""
        return CellNetwork(
            genotype,
            self.build_space(binarize),
            channels=self.channels,
            cells=self.cells,
            classes=classes,
            auxiliary=self.auxiliary,
        )
