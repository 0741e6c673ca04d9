"""Sign with the straight-through estimator: the binarizers of BATS, for activations and for weights."""

from typing import Any, final

import torch
from torch import Tensor

from binarch.quantizers.base import Quantizer, StepQuantizer
from binarch.quantizers.straight_through import mean_magnitude, sign_steps, signs


@final
class _StraightThroughSign(torch.autograd.Function):
    """sign(x) with sign(0) = +1; the gradient passes where -1 < x < 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, x, -1, 1)


def straight_through_sign(x: Tensor) -> Tensor:
    r"""Binarize to :math:`\{-1, +1\}`.

    Forward :math:`\operatorname{sign}(x)`, with :math:`\operatorname{sign}(0) = +1` so that there are two states,
    not three. Backward :math:`\partial q / \partial x = 1_{|x| < 1}`, the window of Courbariaux et al. (2016).
    """
    return _StraightThroughSign.apply(x)


@final
class Sign(StepQuantizer):
    """One-bit activations, scale one: :func:`straight_through_sign` as a module. Used by BATS and XNOR-Net."""

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and a scale of one."""
        return straight_through_sign(x), x.new_ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Return the signs, with the straight-through gradient."""
        return straight_through_sign(x)

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """-1 below 0, +1 from 0 on."""
        return sign_steps()


@final
class CentredSign(Quantizer):
    r"""One-bit filters: centred over the input channels, scaled by the mean absolute value of each filter.

    For a filter bank :math:`W` of shape (out, in / groups, k, k) and one output channel :math:`c`

    .. math:: \tilde W_c = W_c - \operatorname{mean}_{in} W_c, \quad
              \alpha_c = \operatorname{mean} |\tilde W_c|, \quad
              q(W)_c = \alpha_c \operatorname{sign}(\tilde W_c).

    Backward: straight through :math:`\operatorname{sign}` where :math:`|\tilde W| < 1`, exactly through
    :math:`\alpha` and through the centring. :math:`\alpha_c` minimises
    :math:`\lVert \tilde W_c - a \operatorname{sign}(\tilde W_c) \rVert` over :math:`a` (Rastegari et al., 2016).

    With a single input channel per group centring would leave nothing, so it is skipped there.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the scale of each filter, shape (out, 1, 1, 1)."""
        centred = self._centre(x)
        return straight_through_sign(centred), mean_magnitude(centred)

    @staticmethod
    def _centre(x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True) if x.shape[1] > 1 else x
