"""The settings of a network."""

from dataclasses import dataclass
from typing import Literal, final

from torch import nn

from binarch.errors import UserError, choose
from binarch.models.catalogue import MODELS, build_model
from binarch.models.cell_network import CellNetwork
from binarch.nn import SCHEMES, Binarization, Binarize, binarize_, find_scheme
from binarch.nn.scheme import as_they_are
from binarch.spaces import Genotype, Space, build_space, find_genotype

#: A genotype, or the name of a network in the catalogue.
Architecture = Genotype | str


def find_architecture(name: str) -> Architecture:
    """A name of the catalogue as it is; else the genotype behind a published name, a genotype file, or a run folder."""
    if name in MODELS:
        return name
    try:
        return find_genotype(name)
    except UserError as error:
        raise UserError(f"{error}; networks of the catalogue: {', '.join(MODELS)}") from None


@final
@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network around the cells; or the width of a network of the catalogue, and its method."""

    space: Literal["bats", "darts"] = "bats"
    """Cells: which operations the primitives' names stand for."""
    cells: int = 20
    """Cells: their number; the ones at a third and two thirds halve the resolution."""
    channels: int = 36
    """Cells: width of the first ones; doubles at each reduction."""
    groups: int = 12
    """Cells: convolution groups of the bats space."""
    output_scale: bool = False
    """Cells: learn one factor per output channel of every convolution."""
    auxiliary: bool = False
    """Cells: add the auxiliary head (training only; images of 32 pixels or more)."""
    scheme: str = "bats"
    """Catalogue: the method (see: binarch list schemes)."""
    where: Literal["scheme", "inner", "all"] = "scheme"
    """Catalogue: which layers get it; scheme: those of its paper, inner: all but first and last."""
    width: int = 0
    """Catalogue: channels of the first stage; 0: as published."""

    def __post_init__(self) -> None:
        choose("scheme", self.scheme, SCHEMES)

    def build_space(self, binarize: Binarize) -> Space:
        """The space with its convolutions set to ``binarize``."""
        return build_space(self.space, Binarization(binarize, self.output_scale), self.groups)

    def check(self, arch: Architecture, stages: tuple[Binarize, ...], classes: int, image_size: int) -> None:
        """Refuse what cannot be built."""
        if isinstance(arch, str):
            if len(stages) > 1 and find_scheme(self.scheme).latent is not as_they_are:
                raise UserError(
                    f"binarize: {' '.join(stages)} is not possible with {self.scheme}, whose latent weights are not "
                    "those of a real network; use --binarize both"
                )
            for binarize in stages:
                self.build(arch, classes, binarize, image_size)
            return
        for binarize in stages:
            self.build_space(binarize).check(self.channels)
        if self.cells < 3:
            raise UserError(f"cells: {self.cells} is too few for two reductions; use 3 or more")
        if self.auxiliary and image_size < 32:
            raise UserError(
                f"auxiliary: images of {image_size} pixels are too small for the auxiliary head; it needs 32 "
                "(use --no-auxiliary or --image-size 32)"
            )

    def build(self, arch: Architecture, classes: int, binarize: Binarize, image_size: int = 32) -> nn.Module:
        """The network of ``arch``; ``image_size`` counts for the catalogue only."""
        if isinstance(arch, str):
            return self._from_catalogue(arch, classes, binarize, image_size)
        return CellNetwork(
            arch,
            self.build_space(binarize),
            channels=self.channels,
            cells=self.cells,
            classes=classes,
            auxiliary=self.auxiliary,
        )

    def _from_catalogue(self, name: str, classes: int, binarize: Binarize, image_size: int) -> nn.Module:
        choose("arch", name, MODELS)
        network = build_model(name, classes=classes, image_size=image_size, width=self.width or None)
        if binarize != "none":
            scheme = find_scheme(self.scheme)
            scheme = scheme if binarize == "both" else scheme.with_real_weights()
            binarize_(network, scheme, where=None if self.where == "scheme" else self.where)
        return network
