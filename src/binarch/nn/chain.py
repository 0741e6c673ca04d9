"""Modules in a row, neighbours as one where that is quicker."""

from collections.abc import Iterable
from typing import Any, final

from torch import Tensor, nn

from binarch.nn import fused
from binarch.nn.blocks import ChannelShuffle, ShiftedPair
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

    In training on a CPU a batch norm before convolutions that take signs, and a PReLU, with the channel shuffle that
    may follow it, are computed in few passes over memory (see ``fused``). Outputs, gradients and running statistics are
    those of the modules up to rounding; hooks on the single modules do not hear of it.
    """
    parts: list[Any] = [module for module in modules if not isinstance(module, nn.Identity)]
    while parts:
        part, *parts = parts
        follows = parts[0] if parts else None
        quick = fused.fits(x)  # looked at first: torch.fx hands out no parameters
        polynomial = _gradient(follows) if quick and fused.counts_batches(part) else None
        if polynomial is not None:
            assert isinstance(follows, QuantConv2d | ShiftedPair)
            x = follows.from_signs(fused.normalised_signs(x, part, polynomial=polynomial))
            parts = parts[1:]
        elif quick and isinstance(part, PReLU) and part.training:
            groups = follows.groups if isinstance(follows, ChannelShuffle) else 1
            x = fused.shuffled_prelu(x, part.weight, groups)
            parts = parts[isinstance(follows, ChannelShuffle) :]
        else:
            x = part(x)
    return x


def _gradient(module: nn.Module | None) -> bool | None:
    """Whether the signs that a module takes in place of its input have the polynomial gradient; None: it takes none."""
    parts = (module.first, module.second) if isinstance(module, ShiftedPair) else (module,)
    taken = {
        isinstance(part.activation_quantizer, PolynomialSign)
        if isinstance(part, QuantConv2d) and part.takes_signs
        else None
        for part in parts
    }
    return taken.pop() if len(taken) == 1 else None
