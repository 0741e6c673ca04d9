"""The settings of a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final, get_args

from torch import Tensor, nn

from binarch.errors import UserError, choose
from binarch.models.catalogue import MODELS, build_model
from binarch.models.cell_network import CellNetwork
from binarch.nn import CELL_SCHEMES, SCHEMES, Binarization, Binarize, SignGradient, binarize_, find_scheme, settle
from binarch.nn.scheme import as_they_are
from binarch.quantizers import Correction, Quantizer
from binarch.spaces import SPACES, Genotype, Space, build_space, find_genotype

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


def _check_fit(before: nn.Module, after: nn.Module) -> None:
    """Refuse stages whose weights do not fit each other; what quantizers and corrections hold may be there or not."""
    old, new = ({key: value.shape for key, value in network.state_dict().items()} for network in (before, after))
    learned = {
        f"{name}.{key}"
        for network in (before, after)
        for name, module in network.named_modules()
        if isinstance(module, Quantizer | Correction)
        for key in module.state_dict()
    }
    for key in sorted(old.keys() | new.keys()):
        if key not in learned and old.get(key) != new.get(key):
            raise UserError(
                f"binarize: the stages differ in {key}, so the weights of one do not fit the next; give this scheme "
                "one stage"
            )


@final
@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network around the cells; or the width of a network of the catalogue, and its method."""

    space: Literal["bats", "darts", "nasnet"] = "bats"
    """Cells: which operations the primitives' names stand for."""
    cells: int = 20
    """Cells: their number; the ones at a third and two thirds halve the resolution."""
    channels: int = 36
    """Cells: width of the first ones; doubles at each reduction."""
    groups: int = 12
    """Cells: convolution groups of the bats space."""
    stem: Literal["cifar", "half"] = "cifar"
    """Cells: the first layer keeps the images' size, or (half) halves it: a quarter of the work."""
    output_scale: bool = False
    """Cells: learn one factor per output channel of every convolution, as standardised ones always do."""
    auxiliary: bool = False
    """Add the auxiliary head (training only): cells, at 32 pixels or more; nasnet-a, amoebanet-a."""
    scheme: str = "bats"
    sign_gradient: SignGradient = "scheme"
    """Method (see list schemes; cells: bats, standardised); signs' gradient: window, polynomial."""
    where: Literal["scheme", "inner", "all"] = "scheme"
    """Catalogue: which layers get it; scheme: those of its paper, inner: all but first and last."""
    width: int = 0
    """Catalogue: channels of the first stage; 0: as published."""

    def __post_init__(self) -> None:
        choose("space", self.space, SPACES)
        choose("scheme", self.scheme, SCHEMES)
        choose("sign_gradient", self.sign_gradient, get_args(SignGradient))
        choose("where", self.where, ("scheme", "inner", "all"))

    def build_space(self, binarize: Binarize) -> Space:
        """The space with its convolutions set to ``binarize``."""
        if self.scheme not in CELL_SCHEMES or (self.scheme != "bats" and self.space != "bats"):
            raise UserError(
                f"scheme: {self.scheme} is not possible in cells of the {self.space} space; use bats, in the bats "
                f"space one of {', '.join(CELL_SCHEMES)} (others are for networks of the catalogue)"
            )
        if self.sign_gradient != "scheme" and self.space != "bats":
            raise UserError(
                f"sign_gradient: {self.sign_gradient} is not possible in cells of the {self.space} space, whose "
                "convolutions are real; use scheme"
            )
        made = Binarization(binarize, self.output_scale, self.scheme, self.sign_gradient)
        return build_space(self.space, made, self.groups)

    def refuse_idle(self, arch: Architecture, usual: "NetworkConfig | None" = None) -> None:
        """Refuse what says nothing of ``arch``: a width of cells, channels of a network of the catalogue.

        What equals ``usual`` (default: the defaults) was not asked for.
        """
        usual = NetworkConfig() if usual is None else usual
        if isinstance(arch, str):
            kind = f"cells, not for {arch}, which has --width and --where"
            idle = dict.fromkeys(("space", "cells", "channels", "groups", "stem", "output_scale"), kind)
        else:
            kind = "networks of the catalogue, not for cells, which have --cells, --channels and --groups"
            idle = dict.fromkeys(("where", "width"), kind)
        for name, owner in idle.items():
            if (value := getattr(self, name)) != getattr(usual, name):
                raise UserError(f"{name}: {value} is for {owner}; leave it out")

    def check(self, arch: Architecture, stages: tuple[Binarize, ...], classes: int, image_size: int) -> None:
        """Refuse what cannot be built."""
        if isinstance(arch, str):
            if len(stages) > 1 and find_scheme(self.scheme).latent is not as_they_are:
                raise UserError(
                    f"binarize: {' '.join(stages)} is not possible with {self.scheme}, whose latent weights are not "
                    "those of a real network; use --binarize both"
                )
            built = [self.build(arch, classes, binarize, image_size) for binarize in stages]
            for before, after in pairwise(built):
                _check_fit(before, after)
            return
        choose("stem", self.stem, ("cifar", "half"))
        if (self.where, self.width) != ("scheme", 0):
            raise UserError("where, width: are for networks of the catalogue; cells have --binarize, --channels")
        for binarize in stages:
            space = self.build_space(binarize)
            space.check(self.channels)
            space.check_genotype(arch)
        if self.cells < 3:
            raise UserError(f"cells: {self.cells} is too few for two reductions; use 3 or more")
        least = 64 if self.stem == "half" else 32
        if self.auxiliary and image_size < least:
            raise UserError(
                f"auxiliary: images of {image_size} pixels are too small for the auxiliary head; it needs {least} "
                f"(use --no-auxiliary or --image-size {least})"
            )

    def build(
        self,
        arch: Architecture,
        classes: int,
        binarize: Binarize,
        image_size: int = 32,
        weights: Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """The network of ``arch``; ``image_size`` counts for the catalogue only.

        ``weights`` are those of an earlier stage, in the same network; what only this stage's quantizers learn starts
        from them.
        """
        if isinstance(arch, str):
            return self._from_catalogue(arch, classes, binarize, image_size, weights)
        network = CellNetwork(
            arch,
            self.build_space(binarize),
            channels=self.channels,
            cells=self.cells,
            classes=classes,
            stem=self.stem,
            auxiliary=self.auxiliary,
        )
        if weights is not None:
            network.load_state_dict(weights)
        return network

    def _from_catalogue(
        self, name: str, classes: int, binarize: Binarize, image_size: int, weights: Mapping[str, Tensor] | None
    ) -> nn.Module:
        choose("arch", name, MODELS)
        network = build_model(
            name, classes=classes, image_size=image_size, width=self.width or None, auxiliary=self.auxiliary
        )
        if weights is not None:  # before the quantizers are made, which start from them
            network.load_state_dict({key: weights[key] for key in network.state_dict() if key in weights}, strict=False)
        if binarize != "none":
            scheme = find_scheme(self.scheme).with_sign_gradient(self.sign_gradient)
            scheme = scheme if binarize == "both" else scheme.with_real_weights()
            leave = ("auxiliary",) if self.auxiliary else ()
            binarize_(network, scheme, where=None if self.where == "scheme" else self.where, leave=leave)
        if weights is not None:
            network.load_state_dict(weights, strict=False)
            settle(network)
        return network
