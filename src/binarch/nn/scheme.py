"""What a binarization method does to a network."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, final, get_args

from torch import Tensor, nn

from binarch.errors import choose
from binarch.nn.norms import BatchNorm
from binarch.nn.quant_layer import Shape2d
from binarch.nn.sign_gradient import SignGradient, with_gradient
from binarch.quantizers import Correction, Free, Identity, LatentRule, Quantizer

#: What becomes of a ReLU: it stays; a hard tanh (the window of a sign); nothing (the sign is the nonlinearity).
Nonlinearity = Literal["keep", "hardtanh", "none"]


def as_they_are(weight: Tensor) -> Tensor:
    """Latent weights that start at the network's."""
    return weight


def no_correction(shape: Shape2d) -> Correction | None:
    """Sums of codes are left as they are."""
    return None


@final
@dataclass(frozen=True)
class Scheme:
    """A method: how weights and activations become codes, and what else of the network changes with them.

    ``bits`` are those of (weights, activations). ``where`` is what the method's paper binarizes: ``inner`` leaves the
    first and the last layer real, ``all`` takes every layer (the first one sees real pixels).
    """

    name: str
    title: str
    bits: tuple[int, int]
    learns: str
    """What is learned besides the weights, in words."""
    published: str
    """The figure of the literature on CIFAR-10, and on which network."""
    weight: Callable[[Tensor], Quantizer]
    """The quantizer of a layer, given its latent weights."""
    activation: Callable[[], Quantizer]
    """The quantizer of a layer's input."""
    where: Literal["inner", "all"] = "inner"
    nonlinearity: Nonlinearity = "keep"
    norm: Callable[[BatchNorm], nn.Module] | None = None
    """What becomes of each batch norm but the last; None: they stay."""
    kernels: tuple[int, ...] = ()
    """Sizes of square kernels that it takes; empty: all, and linear layers."""
    multiple: int = 1
    """Channels must be a multiple of this."""
    latent: Callable[[Tensor], Tensor] = as_they_are
    """Latent weights, given a float layer's."""
    latent_rule: LatentRule = field(default_factory=Free)
    correction: Callable[[Shape2d], Correction | None] = no_correction
    """What is done to a convolution's sums, given its shape."""

    def __post_init__(self) -> None:
        choose("nonlinearity", self.nonlinearity, get_args(Nonlinearity))
        choose("where", self.where, ("inner", "all"))

    def with_sign_gradient(self, gradient: SignGradient) -> "Scheme":
        """The same method with another gradient of its activations' signs."""
        return replace(self, activation=with_gradient(self.activation, gradient, self.name))

    def with_real_weights(self) -> "Scheme":
        """The same activations on real weights: the first of two training stages."""
        free = replace(self, latent=as_they_are, latent_rule=Free(), correction=no_correction, multiple=1)
        return replace(free, weight=lambda weight: Identity())
