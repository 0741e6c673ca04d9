"""The straight-through estimator in its general form."""

from typing import Any, final

import torch
from torch import Tensor


@final
class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None


def straight_through(x: Tensor, codes: Tensor, slope: Tensor) -> Tensor:
    r"""Codes forward, a slope backward.

    Forward ``codes``, whatever made them of ``x``; backward :math:`\partial L / \partial x = g \cdot` ``slope``, with
    ``slope`` broadcastable against ``x``. A slope of :math:`1 / s` where the codes will be multiplied by a scale
    :math:`s` hands the gradient of the scaled codes through unchanged.
    """
    return _StraightThrough.apply(x, codes.detach(), slope.detach())


def inside(x: Tensor, low: float, high: float) -> Tensor:
    """1 where low <= x <= high, else 0, in the number format of ``x``."""
    return ((x >= low) & (x <= high)).to(x.dtype)


def signs(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1; no gradient."""
    x = x.detach()
    if torch.compiler.is_compiling():
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    # Comparing straight into floats is five times faster than converting booleans.
    return torch.ge(x, 0, out=torch.empty_like(x)).mul_(2).sub_(1)


def drawn_signs(x: Tensor) -> Tensor:
    """+1 with probability clip((x + 1) / 2, 0, 1), else -1; no gradient."""
    return torch.bernoulli(((x.detach() + 1) / 2).clamp(0, 1)) * 2 - 1


def sign_steps() -> tuple[Tensor, Tensor, Tensor]:
    """The staircase of a sign (thresholds, codes, scale): -1 below 0, +1 from 0 on."""
    return torch.zeros(1), torch.tensor([-1.0, 1.0]), torch.ones(())


def mean_magnitude(filters: Tensor) -> Tensor:
    """Mean absolute value of each filter, (out, ...) -> (out, 1, ...): the scale closest to it for its signs."""
    return filters.abs().mean(tuple(range(1, filters.dim())), keepdim=True)


def just_above(x: Tensor) -> Tensor:
    """The next number of the format: y > x and y >= just_above(x) are the same."""
    return torch.nextafter(x, torch.full_like(x, torch.inf))
