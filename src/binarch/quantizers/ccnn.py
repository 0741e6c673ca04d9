"""CCNN (Xu and Cheung, 2019): trained scales for weights and activations. A reconstruction: there is no public code."""

from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.quantizers.base import Quantizer, StepQuantizer
from binarch.quantizers.straight_through import just_above, signs, straight_through


def long_tail(x: Tensor) -> Tensor:
    """H(x) = 2 - 4|x| for |x| <= 0.4; 0.4 for 0.4 < |x| <= 1; 0 beyond. The area is 1.44."""
    size = x.abs()
    return torch.where(size <= 0.4, 2 - 4 * size, 0.4 * (size <= 1).to(x.dtype))


@final
class _Decayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.decay = decay
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad + ctx.decay * x, None


@final
class TrainedScale(Quantizer):
    r"""Signs of a filter times a learned factor.

    Forward :math:`q(w) = \alpha_c \operatorname{sign}(w)`. Backward, with :math:`g = \partial L / \partial q`:
    :math:`\partial L / \partial w = g\,\alpha_c \max(2 - 2|w|, 0)`;
    :math:`\partial L / \partial \alpha_c = \sum g \operatorname{sign}(w) + \lambda \alpha_c`, the last term from the
    penalty :math:`\tfrac{\lambda}{2} \sum \alpha^2` of the paper, with :math:`\lambda` = 1e-4.

    ``alpha`` (out,) is learned and starts at the mean absolute value of its filter. Latent weights are clipped to
    [-1, 1] (:class:`Boxed`). How sure: that scales are trained and penalised, yes; one per filter, 0.5; this
    derivative of the sign (the paper's is "of higher order"), 0.6; the clipping, 0.6; :math:`\lambda` and the start
    are ours.
    """

    bits = 1

    def __init__(self, filters: Tensor, decay: float = 1e-4) -> None:
        super().__init__()
        self.decay = decay
        self.alpha = nn.Parameter(filters.detach().abs().flatten(1).mean(1))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the learned scale, shape (out, 1, 1, 1)."""
        codes = straight_through(x, signs(x), (2 - 2 * x.detach().abs()).clamp(min=0))
        alpha = _Decayed.apply(self.alpha, self.decay).to(x.dtype)
        return codes, alpha.view(-1, *[1] * (x.dim() - 1))


@final
class LongTailedStep(StepQuantizer):
    r"""One-bit activations of 0 and a learned factor, with a long-tailed gradient.

    Forward :math:`q(x) = \beta\,1_{x > 0}`. Backward :math:`\partial L / \partial x = g\,\beta H(x)` with :math:`H` of
    :func:`long_tail`; :math:`\partial L / \partial \beta = \sum g\,1_{x > 0}`.

    ``beta`` is one number per layer that starts at 1. A batch norm behind the convolution cancels it in the forward
    pass; what it changes is the size of gradients. How sure: :math:`H`, the codes 0 and 1: 0.85 (both are cited by
    others as this paper's); that H is taken at x and not at :math:`x / \beta`, and one beta per layer: ours.
    """

    bits = 1

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(()))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and 1, and beta."""
        codes = (x.detach() > 0).to(x.dtype)
        return straight_through(x, codes, long_tail(x.detach())), self.beta.to(x.dtype)

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """0 up to 0, 1 above."""
        return just_above(torch.zeros(1)), torch.tensor([0.0, 1.0]), self.beta.detach().cpu()
