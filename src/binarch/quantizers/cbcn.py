"""CBCN (Liu et al., 2019): circulant binary filters, four rotated copies of each stored one."""

from typing import Any, final

import torch
from torch import Tensor

from binarch.quantizers.base import Quantizer, StepQuantizer
from binarch.quantizers.straight_through import sign_steps, signs

#: Quarter turns of a filter, and channels that share one stored filter.
ORIENTATIONS = 4


@final
class PolynomialSign(StepQuantizer):
    r"""One-bit activations with the gradient of a piecewise quadratic (Bi-Real Net, Liu et al., 2018).

    Forward :math:`q(x) = \operatorname{sign}(x)`, backward
    :math:`\partial L / \partial x = g \max(2 - 2|x|, 0)`: 2 at 0, 1 at +-1/2, 0 from +-1 on. Nothing is learned.
    Sure: read in the public code, where sign(0) = 0; +1 here.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and a scale of one."""
        return polynomial_sign(x), x.new_ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Return the signs."""
        return polynomial_sign(x)

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """-1 below 0, +1 from 0 on."""
        return sign_steps()


@final
class _PolynomialSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.abs().mul_(-2).add_(2).clamp_(min=0).mul_(grad)


def polynomial_sign(x: Tensor) -> Tensor:
    """The function behind :class:`PolynomialSign`."""
    signed: Tensor = _PolynomialSign.apply(x)
    return signed


def circulate(stored: Tensor) -> Tensor:
    r"""Expand stored filters (O, I, 4, k, k) to a bank (4 O, 4 I, k, k).

    :math:`E[4 o + r,\ 4 i + (j + r) \bmod 4] = \operatorname{turn}^r(W[o, i, j])`, where ``turn`` is a quarter turn
    clockwise: output orientation r sees each slice turned r times, and the orientations of its input shifted by r. A
    turn of the picture then turns the output and shifts its orientations. ``E`` at r = 0 is ``W``. Linear; its
    gradient is the exact adjoint, "circulant back propagation": :math:`\partial W[o, i, j] = \sum_r
    \operatorname{turn}^{-r} (\partial E[4 o + r,\ 4 i + (j + r) \bmod 4])`.
    """
    o, i, m, h, w = stored.shape
    turned = [torch.rot90(stored, -r, (3, 4)).roll(r, 2) for r in range(m)]
    return torch.stack(turned, 1).reshape(o * m, i * m, h, w)


@final
class CirculantSign(Quantizer):
    r"""Signs of circulant filters times one scale per layer.

    Forward :math:`q(W) = a \operatorname{sign}(E(W))` with :math:`E` of :func:`circulate` and the scalar :math:`a =
    \operatorname{mean} |W|` (of the layer, not of each filter). ``W`` is given as (O, 4 I, k, k), input orientations
    running fastest; the codes are (4 O, 4 I, k, k): one stored bit serves four filters. Backward: the sign as in
    :class:`PolynomialSign`, exactly through :math:`a` and :math:`E`. Latent weights are not clipped. Nothing else is
    learned.

    Sure: read in the public code (of the ResNet-18 row; the WRN row has none). The paper's centre loss is left out, as
    in that code.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs of the expanded bank, and the scalar scale."""
        return polynomial_sign(circulate(x.unflatten(1, (-1, ORIENTATIONS)))), x.abs().mean()


def stored_filters(filters: Tensor) -> Tensor:
    """Latent weights (O, 4 I, k, k) out of a bank (4 O, 4 I, k, k): every fourth filter of it."""
    return filters[::ORIENTATIONS].clone()
