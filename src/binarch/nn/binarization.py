"""What of a cell's convolutions carries one bit: the setting that a training stage switches."""

from dataclasses import dataclass
from typing import Literal, final, get_args

from torch import nn

from binarch.errors import choose
from binarch.nn.quant_conv import QuantConv2d
from binarch.nn.sign_gradient import SignGradient, with_gradient
from binarch.quantizers import CentredSign, Identity, PolynomialSign, Quantizer, Sign, StandardisedSign

#: ``none``: real network; ``activations``: 1-bit inputs, real filters; ``both``: 1-bit inputs and filters.
Binarize = Literal["none", "activations", "both"]
#: ``bats``: centred signs times their mean magnitude, sign gradients within a window, as in the paper.
#: ``standardised``: standardised signs of unit length, polynomial gradients, a learned factor per output channel.
CELL_SCHEMES = ("bats", "standardised")
#: Where the learned factors of ``standardised`` start: so that what an operation adds to its input begins small.
SMALL = 0.1


@final
@dataclass(frozen=True)
class Binarization:
    """Builds the convolutions of cells, binarized as in BATS or ``standardised``, which learns sooner.

    A real network and a binary one hold the same parameters, so the weights of one stage load into the next:
    that is the two-stage switch (activations first, then filters too).
    """

    binarize: Binarize = "both"
    output_scale: bool = False
    """Whether ``bats`` learns a factor per output channel, from one on; ``standardised`` always learns one."""
    scheme: str = "bats"
    sign_gradient: SignGradient = "scheme"
    """What stands for the gradient of the inputs' signs."""

    def __post_init__(self) -> None:
        choose("binarize", self.binarize, get_args(Binarize))
        choose("scheme", self.scheme, CELL_SCHEMES)
        choose("sign_gradient", self.sign_gradient, get_args(SignGradient))

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> QuantConv2d:
        """A convolution with this setting's quantizers."""
        filters, inputs = self._quantizers()
        made = QuantConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            weight_quantizer=filters if self.binarize == "both" else Identity(),
            activation_quantizer=inputs if self.binarize != "none" else Identity(),
            output_scale=self.output_scale or self.scheme == "standardised",
        )
        if made.scale is not None and self.scheme == "standardised":
            nn.init.constant_(made.scale, SMALL)
        return made

    def _quantizers(self) -> tuple[Quantizer, Quantizer]:
        """Of filters and of inputs, where they carry one bit."""
        if self.scheme == "standardised":
            return StandardisedSign(unit=True), with_gradient(PolynomialSign, self.sign_gradient, self.scheme)()
        return CentredSign(), with_gradient(Sign, self.sign_gradient, self.scheme)()
