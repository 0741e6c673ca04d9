"""What of a cell's convolutions carries one bit: the setting that a training stage switches."""

from dataclasses import dataclass
from typing import Literal, final, get_args

from binarch.errors import choose
from binarch.nn.quant_conv import QuantConv2d
from binarch.quantizers import CentredSign, Identity, Sign

#: ``none``: real network; ``activations``: 1-bit inputs, real filters; ``both``: 1-bit inputs and filters.
Binarize = Literal["none", "activations", "both"]


@final
@dataclass(frozen=True)
class Binarization:
    """Builds the convolutions of one binarization of BATS.

    A real network and a binary one hold the same parameters, so the weights of one stage load into the next:
    that is the two-stage switch (activations first, then filters too).
    """

    binarize: Binarize = "both"
    output_scale: bool = False

    def __post_init__(self) -> None:
        choose("binarize", self.binarize, get_args(Binarize))

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
        return QuantConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            weight_quantizer=CentredSign() if self.binarize == "both" else Identity(),
            activation_quantizer=Identity() if self.binarize == "none" else Sign(),
            output_scale=self.output_scale,
        )
