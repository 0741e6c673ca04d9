"""Modules in a row, neighbours as one where that is quicker."""

from collections.abc import Iterable
from typing import Any, final

from torch import Tensor, nn

from binarch.nn import fused
from binarch.nn.blocks import ChannelShuffle
from binarch.nn.prelu import PReLU
from binarch.nn.quant_conv import QuantConv2d
from binarch.quantizers import PolynomialSign


@final
class Chain(nn.Sequential):
    """``nn.Sequential`` by way of :func:`through`."""

    def forward(self, x: Tensor) -> Tensor:
        """Pass (N, C, H, W) through all modules."""
        return through(self, x)


def through(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Pass ``x`` through ``modules``, one after the other.

    In training on a CPU a batch norm before a convolution that takes signs, and a PReLU, with the channel shuffle that
    may follow it, are computed in few passes over memory (see ``fused``). Outputs, gradients and running statistics are
    those of the modules up to rounding; hooks on the single modules do not hear of it.
    """
    parts: list[Any] = [module for module in modules if not isinstance(module, nn.Identity)]
    while parts:
        part, *parts = parts
        follows = parts[0] if parts else None
        quick = fused.fits(x)  # looked at first: torch.fx hands out no parameters
        into_signs = quick and fused.counts_batches(part)
        if into_signs and isinstance(follows, QuantConv2d) and follows.takes_signs:
            polynomial = isinstance(follows.activation_quantizer, PolynomialSign)
            x = follows.from_signs(fused.normalised_signs(x, part, polynomial=polynomial))
            parts = parts[1:]
        elif quick and isinstance(part, PReLU) and part.training:
            groups = follows.groups if isinstance(follows, ChannelShuffle) else 1
            x = fused.shuffled_prelu(x, part.weight, groups)
            parts = parts[isinstance(follows, ChannelShuffle) :]
        else:
            x = part(x)
    return x
