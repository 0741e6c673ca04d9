"""Standardised signs: filters of mean 0 and deviation 1, after IR-Net (Qin et al., 2020)."""

from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from binarch.quantizers.base import Quantizer
from binarch.quantizers.straight_through import mean_magnitude, signs, straight_through

#: Added to the variance: a filter whose weights are all equal has a deviation too.
EPSILON = 1e-10


@final
class StandardisedSign(Quantizer):
    r"""Signs of standardised filters times the mean magnitude of what they stand for.

    Forward :math:`q(w) = \operatorname{mean} |\hat w| \operatorname{sign}(\hat w)` per filter, with weights of mean 0
    and variance 1 (Qiao et al., 2019), :math:`\hat w = (w - \operatorname{mean} w) / \sqrt{\operatorname{var} w +
    10^{-10}}`, var without Bessel's correction: as many bits of +1 as of -1, nearly, and a length of the latent weights
    that does not count. A filter of one weight stays as it is. Backward: straight through the sign everywhere, exactly
    through the mean magnitude and the standardisation, which takes the part along :math:`w` and the mean out of the
    gradient.

    With ``unit`` the scale is divided by :math:`\sqrt n`, n weights in a filter: sums over n signs then have a
    deviation of about 1 whatever n is, as a layer needs that no norm follows.

    IR-Net does the same before its sign. What differs: its scale is rounded to a power of two, its deviation has
    Bessel's correction, and its gradient is a tanh that grows steeper during training.
    """

    bits = 1

    def __init__(self, *, unit: bool = False) -> None:
        super().__init__()
        self.unit = unit

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the scale of each filter, shape (out, 1, ...)."""
        if x[0].numel() == 1:
            return straight_through(x, signs(x), x.new_ones(())), mean_magnitude(x)
        codes, scale = _Standardised.apply(x)
        return codes, scale * x[0].numel() ** -0.5 if self.unit else scale


@final
class _Standardised(torch.autograd.Function):
    r"""Signs s and mean magnitude m of standardised filters, in few passes, because weights are many.

    With g the gradient of s, c that of m, n weights in a filter and :math:`h = g + c s / n`, that of the latent weights
    is :math:`(h - \bar h - \hat w \, \overline{h \hat w}) / \sigma`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = _rows(x)
        hat = rows - rows.mean(1, keepdim=True)
        # no dot product: mixed precision would shorten it
        inverse = (hat.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        hat *= inverse
        magnitude = torch.linalg.vector_norm(hat, ord=1, dim=1) / rows.shape[1]
        ctx.save_for_backward(hat, inverse)
        return _back(signs(hat), x), magnitude.view(-1, *[1] * (x.dim() - 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_codes: Tensor, of_scale: Tensor) -> Tensor:
        hat, inverse = ctx.saved_tensors
        count = hat.shape[1]
        found = signs(hat).mul_(of_scale.view(-1, 1) / count).add_(_rows(of_codes))
        tilt = torch.linalg.vecdot(found, hat, dim=1).unsqueeze(1) / count
        found -= found.mean(1, keepdim=True)
        return _back(found.addcmul_(hat, -tilt).mul_(inverse), of_codes)


def _rows(filters: Tensor) -> Tensor:
    """A row per filter, in the order in which its weights lie where channels come last."""
    return filters.movedim(1, -1).reshape(len(filters), -1)


def _back(rows: Tensor, filters: Tensor) -> Tensor:
    """Rows of :func:`_rows` in the shape of ``filters``."""
    return rows.view(filters.movedim(1, -1).shape).movedim(-1, 1)
