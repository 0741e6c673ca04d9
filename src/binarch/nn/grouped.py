"""Grouped convolutions in the form that is quickest on the device."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = int | tuple[int, int]


def block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Grouped filters (out, in / groups, k, k) as dense ones (out, in, k, k): zeros for the channels of other groups.

    A convolution with them is the grouped one, and does ``groups`` times the work; its gradient takes the blocks out.
    """
    out, inputs, *kernel = weight.shape
    blocks = weight.view(groups, out // groups, inputs, *kernel).movedim(0, -1)
    return torch.diag_embed(blocks, dim1=0, dim2=2).reshape(out, groups * inputs, *kernel)


@final
class GroupedProduct(nn.Module):
    """The convolution (N, in, H, W) * (out, in / groups, k, k), without parameters of its own.

    Where ``dense``, groups are computed as one convolution with :func:`block_diagonal` filters: on GPUs groups of a
    few channels leave most of a tensor core idle, which zeros do not. The numbers are the same up to the rounding of
    sums. :func:`tune_` finds out which form is quicker.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups, self.dense = groups, False

    def forward(self, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        """Convolve."""
        if self.dense and self.groups > 1:
            return functional.conv2d(x, block_diagonal(weight, self.groups), None, stride, padding, dilation)
        return functional.conv2d(x, weight, None, stride, padding, dilation, self.groups)


class Call(NamedTuple):
    """One call of a grouped product: all that its time depends on."""

    groups: int
    x: torch.Size
    weight: torch.Size
    geometry: tuple[Pair, Pair, Pair]


@final
@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call in both forms, forward and backward, the quickest of a few."""

    grouped: float
    dense: float


def tune_(network: nn.Module, forward: Callable[[nn.Module], object], repeats: int = 5) -> dict[Call, Timing]:
    """Give every grouped product of ``network`` the form that is quicker for what ``forward(network)`` asks of it.

    ``forward`` sees a copy of the network, so that no statistics move; under autocast products are timed in its number
    format. Each different call is timed once; a product that is called in several ways takes the form that is quicker
    in sum. Returns the times.
    """
    if not any(isinstance(module, GroupedProduct) and module.groups > 1 for module in network.modules()):
        return {}
    twin = copy.deepcopy(network)
    calls: dict[str, list[Call]] = {}
    timings: dict[Call, Timing] = {}

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            assert isinstance(module, GroupedProduct)
            x, weight, *geometry = arguments
            call = Call(module.groups, x.shape, weight.shape, tuple(geometry))
            calls.setdefault(name, []).append(call)
            if call not in timings:
                timings[call] = _time(call, output, x, repeats)

        return look

    for name, module in twin.named_modules():
        if isinstance(module, GroupedProduct) and module.groups > 1:
            module.register_forward_hook(watch(name))
    forward(twin)
    for name, made in calls.items():
        product = network.get_submodule(name)
        assert isinstance(product, GroupedProduct)
        product.dense = sum(timings[call].dense - timings[call].grouped for call in made) < 0
    return timings


def _time(call: Call, output: Tensor, x: Tensor, repeats: int) -> Timing:
    leaf = x.detach().clone().to(output.dtype).requires_grad_()
    weight = torch.randn(call.weight, device=x.device, dtype=output.dtype, requires_grad=True)
    upstream = torch.randn_like(output)

    def quickest(dense: bool) -> float:
        product = GroupedProduct(call.groups)
        product.dense = dense
        return min(_once(product, call, leaf, weight, upstream) for _ in range(repeats + 1)) * 1e3

    return Timing(quickest(False), quickest(True))


def _once(product: GroupedProduct, call: Call, x: Tensor, weight: Tensor, upstream: Tensor) -> float:
    def now() -> float:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter()

    started = now()
    with torch.enable_grad():
        product(x, weight, *call.geometry).backward(upstream)
    return now() - started
