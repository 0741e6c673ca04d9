r"""What stands between binary convolutions, in as few passes over memory as there can be (CPU, training).

A map of C channels is a table with one row per pixel and C numbers in it. Written as separate modules, a batch norm, a
sign and a PReLU read and write that table again and again, forward and backward; here each does so once or twice. Every
function says which modules it stands for; those are the truth, and the tests compare. The loops are in ``passes``.

Maps are float32, or, where autocast is on, bfloat16: signs are handed to the convolution as bfloat16 then, which holds
them exactly, and all that is computed between reading and writing a number is float32. Sums over pixels are taken in
blocks of rows, each in float32, and added up in double.
"""

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from binarch.nn import passes
from binarch.nn.halves import array_of, array_type, tensor_of
from binarch.nn.team import share


def fits(x: Tensor) -> bool:
    """Whether a map is one that these functions take: on a CPU, in float32, or under bfloat16's autocast.

    What ``torch.compile`` or ``torch.fx`` look at is left to them; one pixel a channel has no variance, as the norm
    will say.
    """
    if not isinstance(x, Tensor):  # torch.fx asks with something else
        return False
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dim() != 4 or x.numel() <= x.shape[1]:
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)
    return x.dtype == torch.float32


def counts_batches(norm: nn.Module) -> bool:
    """Whether a norm is a batch norm as it comes, in training: with factors, shifts and running statistics."""
    plain = type(norm) is nn.BatchNorm2d and norm.training and norm.affine and norm.track_running_stats
    return plain and norm.weight.dtype == torch.float32


def normalised_signs(x: Tensor, norm: nn.BatchNorm2d, *, polynomial: bool) -> Tensor:
    r"""The signs of ``norm(x)``, as +-1; running statistics move on as in the norm.

    Backward through the sign with the window :math:`1_{|y| < 1}`, or :math:`\max(2 - 2 |y|, 0)` where ``polynomial``,
    and through the norm exactly. Stands for ``nn.BatchNorm2d`` and :class:`~binarch.quantizers.Sign` or
    :class:`~binarch.quantizers.PolynomialSign`.
    """
    _check(x, norm.weight, norm.bias)
    signs, mean, variance = _NormalisedSigns.apply(x, norm.weight, norm.bias, norm.eps, polynomial, _signs_type())
    _move_on(norm, mean, variance, x.numel() // x.shape[1])
    found: Tensor = signs
    return found


def shuffled_prelu(x: Tensor, slope: Tensor, groups: int) -> Tensor:
    """PReLU, then a shuffle: :class:`~binarch.nn.PReLU` and :class:`~binarch.nn.ChannelShuffle`."""
    _check(x, slope)
    found: Tensor = _ShuffledPReLU.apply(x, slope, groups)
    return found


def biased_signs(x: Tensor, bias: Tensor, *, polynomial: bool) -> Tensor:
    """The signs of ``x + bias``. Stands for :class:`~binarch.nn.ChannelBias` and a sign."""
    _check(x, bias)
    found: Tensor = _BiasedSigns.apply(x, bias, polynomial, _signs_type())
    return found


def normalised_sum_prelu(x: Tensor, norm: nn.BatchNorm2d, shortcut: Tensor, slope: Tensor) -> Tensor:
    """PReLU(norm(x) + shortcut). Stands for ``nn.BatchNorm2d``, a sum and :class:`~binarch.nn.PReLU`."""
    _check(x, norm.weight, norm.bias, slope)
    if x.shape != shortcut.shape:
        raise ValueError(f"shortcut of {tuple(shortcut.shape)} for a map of {tuple(x.shape)}")
    found, mean, variance = _NormalisedSumPReLU.apply(x, norm.weight, norm.bias, norm.eps, shortcut, slope)
    _move_on(norm, mean, variance, x.numel() // x.shape[1])
    activated: Tensor = found
    return activated


def _check(x: Tensor, *of_channels: Tensor) -> None:
    """The loops look at no bounds."""
    for values in of_channels:
        if values.shape != x.shape[1:2]:
            raise ValueError(f"{tuple(values.shape)} numbers for {x.shape[1]} channels")


def _signs_type() -> torch.dtype:
    return torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32


def _move_on(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, pixels: int) -> None:
    """Running statistics, as PyTorch moves them: the variance without bias."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.num_batches_tracked += 1
        share_of_new = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, share_of_new)
        norm.running_var.lerp_(variance * (pixels / max(pixels - 1, 1)), share_of_new)


@final
class _NormalisedSigns(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, polynomial: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        table = _table(x)
        mean, variance = _moments(table)
        scale, shift = _line(mean, variance, weight, bias, eps)
        signs = np.empty(table.shape, array_type(dtype))
        share(passes.signs, len(table), table, scale, shift, signs)
        ctx.save_for_backward(x, weight)
        ctx.found = mean, variance + np.float32(eps), scale, shift, polynomial
        statistics = torch.from_numpy(mean), torch.from_numpy(variance)
        ctx.mark_non_differentiable(*statistics)
        return _like(signs, x), *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, _weight = ctx.saved_tensors
        mean, variance, scale, shift, polynomial = ctx.found
        table, grads = _table(x), _table(grad)
        sums, products = _blocks(table), _blocks(table)
        share(passes.window_sums, len(sums), table, grads, scale, shift, mean, polynomial, sums, products)
        beta, gamma, offset, tilt = _of_norm(sums, products, variance, len(table))
        found = np.empty_like(table)
        share(passes.window_back, len(table), table, grads, scale, shift, mean, offset, tilt, polynomial, found)
        return _like(found, x), torch.from_numpy(gamma), torch.from_numpy(beta), None, None, None


@final
class _BiasedSigns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, polynomial: bool, dtype: torch.dtype) -> Tensor:
        table, shift = _table(x), array_of(bias)
        signs = np.empty(table.shape, array_type(dtype))
        share(passes.signs, len(table), table, np.ones_like(shift), shift, signs)
        ctx.save_for_backward(x, bias)
        ctx.polynomial = polynomial
        return _like(signs, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bias = ctx.saved_tensors
        table = _table(x)
        found, sums = np.empty_like(table), _blocks(table)
        share(passes.biased_back, len(sums), table, _table(grad), array_of(bias), ctx.polynomial, found, sums)
        return _like(found, x), torch.from_numpy(_total(sums)), None, None


@final
class _ShuffledPReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, groups: int) -> Tensor:
        table = _table(x)
        found = np.empty_like(table)
        share(passes.prelu_shuffle, len(table), table, array_of(slope), _order(len(slope), groups), found)
        ctx.save_for_backward(x, slope)
        ctx.groups = groups
        return _like(found, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        table = _table(x)
        found, sums = np.empty_like(table), _blocks(table)
        places = _order(len(slope), len(slope) // ctx.groups)
        share(passes.prelu_shuffle_back, len(sums), table, _table(grad), array_of(slope), places, found, sums)
        return _like(found, x), torch.from_numpy(_total(sums)), None


@final
class _NormalisedSumPReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, shortcut: Tensor, slope: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        table, beside = _table(x), _table(shortcut)
        mean, variance = _moments(table)
        scale, shift = _line(mean, variance, weight, bias, eps)
        found = np.empty_like(beside)
        share(passes.sum_prelu, len(table), table, beside, scale, shift, array_of(slope), found)
        ctx.save_for_backward(x, shortcut, slope)
        ctx.found = mean, variance + np.float32(eps), scale, shift
        statistics = torch.from_numpy(mean), torch.from_numpy(variance)
        ctx.mark_non_differentiable(*statistics)
        return _like(found, x), *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, shortcut, slope = ctx.saved_tensors
        mean, variance, scale, shift = ctx.found
        table, beside = _table(x), _table(shortcut)
        through, sums, products, slopes = np.empty_like(beside), _blocks(table), _blocks(table), _blocks(table)
        given = beside, _table(grad), scale, shift, mean, array_of(slope)
        share(passes.sum_prelu_back, len(sums), table, *given, through, sums, products, slopes)
        beta, gamma, offset, tilt = _of_norm(sums, products, variance, len(table))
        found = np.empty_like(table)
        share(passes.norm_back, len(table), table, through, scale, mean, offset, tilt, found)
        gradients = _like(found, x), torch.from_numpy(gamma), torch.from_numpy(beta), None
        return *gradients, _like(through, x), torch.from_numpy(_total(slopes))


def _table(x: Tensor) -> NDArray[Any]:
    """A map as rows of channels; no copy where the channels lie last."""
    return array_of(x.permute(0, 2, 3, 1).contiguous()).reshape(-1, x.shape[1])


def _like(table: NDArray[Any], x: Tensor) -> Tensor:
    """Rows of channels as a map of the size of ``x``."""
    n, c, height, width = x.shape
    return tensor_of(table).view(n, height, width, c).permute(0, 3, 1, 2)


def _order(channels: int, groups: int) -> NDArray[np.uint64]:
    """Which input each output of a channel shuffle is; with channels / groups groups, the way back."""
    return np.arange(channels, dtype=np.uint64).reshape(groups, -1).T.ravel().copy()


def _blocks(table: NDArray[Any]) -> NDArray[np.float32]:
    """Room for one sum per block of rows and channel."""
    return np.empty((-(-len(table) // passes.BLOCK), table.shape[1]), np.float32)


def _total(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    total: NDArray[np.float32] = sums.sum(0, dtype=np.float64).astype(np.float32)
    return total


def _moments(table: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance (with bias) of each channel."""
    sums, squares = _blocks(table), _blocks(table)
    share(passes.moments, len(sums), table, sums, squares)
    mean = sums.sum(0, dtype=np.float64) / len(table)
    variance = np.maximum(squares.sum(0, dtype=np.float64) / len(table) - mean**2, 0)
    origin = tensor_of(table[0]).double().numpy()
    return (mean + origin).astype(np.float32), variance.astype(np.float32)


def _line(
    mean: NDArray[np.float32], variance: NDArray[np.float32], weight: Tensor, bias: Tensor, eps: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A norm as scale x + shift."""
    scale: NDArray[np.float32] = array_of(weight) / np.sqrt(variance + np.float32(eps))
    return scale, array_of(bias) - mean * scale


def _of_norm(
    sums: NDArray[np.float32], products: NDArray[np.float32], variance: NDArray[np.float32], pixels: int
) -> tuple[NDArray[Any], ...]:
    """Gradients of a norm's shifts and factors, and what its statistics take from each pixel's gradient."""
    deviation = np.sqrt(variance)
    beta, gamma = _total(sums), _total(products) / deviation
    return beta, gamma, beta / np.float32(pixels), gamma / deviation / np.float32(pixels)
