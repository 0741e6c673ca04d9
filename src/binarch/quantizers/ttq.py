"""TTQ (Zhu et al., 2017): trained ternary weights, real activations."""

from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.quantizers.base import Quantizer


@final
class _Ternary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, positive: Tensor, negative: Tensor, share: float) -> Tensor:
        limit = share * x.abs().max()
        above, below = x > limit, x < -limit
        ctx.save_for_backward(above, below, positive, negative)
        return above * positive - below * negative

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        above, below, positive, negative = ctx.saved_tensors
        slope = torch.where(above, positive, torch.where(below, negative, grad.new_ones(())))
        return grad * slope, (grad * above).sum(), -(grad * below).sum(), None


@final
class TrainedTernary(Quantizer):
    r"""Weights of three values per layer, two of which are learned.

    Forward, with :math:`\Delta = t \max |W|` over the layer, t = 0.05: :math:`q(w) = W_p` where :math:`w > \Delta`,
    :math:`-W_n` where :math:`w < -\Delta`, else 0. Backward, with :math:`g = \partial L / \partial q`:

    .. math:: \partial L / \partial w = g \cdot (W_p,\ W_n,\ 1) \text{ for } w \text{ above, below, between};\quad
              \partial L / \partial W_p = \sum_{w > \Delta} g;\quad \partial L / \partial W_n = -\sum_{w < -\Delta} g.

    No gradient passes through :math:`\Delta`; no clipping. ``positive`` :math:`W_p` and ``negative`` :math:`W_n` are
    scalars that start at 1.

    Sure: read in the authors' code, checked by differentiating. The paper prints both sums without the minus (a
    well-known PyTorch port follows it, and steps :math:`W_n` the wrong way). At exactly :math:`|w| = \Delta` that
    code leaves +-1; 0 here. The codes of ``quantize`` are the values themselves.
    """

    bits = 2

    def __init__(self, threshold: float = 0.05) -> None:
        super().__init__()
        if not 0 <= threshold < 1:
            raise UserError(f"threshold: {threshold} is not possible; use 0 to below 1")
        self.threshold = threshold
        self.positive = nn.Parameter(torch.ones(()))
        self.negative = nn.Parameter(torch.ones(()))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the three values and a scale of one."""
        values = _Ternary.apply(x, self.positive.to(x.dtype), self.negative.to(x.dtype), self.threshold)
        return values, x.new_ones(())
