"""A batch norm, a binary convolution and a PReLU as one."""

from typing import final

from torch import Tensor, nn

from binarch.nn import fused
from binarch.nn.blocks import ChannelShuffle
from binarch.nn.prelu import PReLU
from binarch.nn.quant_conv import QuantConv2d
from binarch.quantizers import PolynomialSign


@final
class NormalisedConv(nn.Sequential):
    """PReLU(conv(BN(x))), and perhaps a channel shuffle: the operation of the BATS space.

    It is the sequence of its parts, whose names are 0, 1, 2 and 3. Where the convolution takes signs, training on a CPU
    computes what stands around it in few passes over memory (see ``fused``); outputs, gradients and running statistics
    are those of the parts up to rounding.
    """

    def __init__(
        self, norm: nn.BatchNorm2d, convolution: QuantConv2d, activation: PReLU, shuffle: ChannelShuffle | None = None
    ) -> None:
        super().__init__(norm, convolution, activation, *[] if shuffle is None else [shuffle])

    def forward(self, x: Tensor) -> Tensor:
        """Compute (N, C, H, W)."""
        norm, convolution, activation, *shuffle = self
        quick = fused.counts_batches(norm) and isinstance(convolution, QuantConv2d) and convolution.takes_signs
        if not quick or not fused.fits(x):
            found: Tensor = super().forward(x)
            return found
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(convolution, QuantConv2d)
        assert isinstance(activation, PReLU)
        polynomial = isinstance(convolution.activation_quantizer, PolynomialSign)
        y = convolution.from_signs(fused.normalised_signs(x, norm, polynomial=polynomial))
        groups = shuffle[0].groups if shuffle and isinstance(shuffle[0], ChannelShuffle) else 1
        return fused.shuffled_prelu(y, activation.weight, groups)
