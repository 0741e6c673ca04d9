"""Standardised signs: filters of mean 0 and deviation 1, after IR-Net (Qin et al., 2020)."""

from typing import final

from torch import Tensor

from binarch.quantizers.base import Quantizer
from binarch.quantizers.straight_through import mean_magnitude, signs, straight_through

#: Added to the variance: a filter whose weights are all equal has a deviation too.
EPSILON = 1e-10


def standardised(filters: Tensor) -> Tensor:
    r"""Filters (out, ...) with mean 0 and variance 1 each (Qiao et al., 2019).

    :math:`\hat w = (w - \operatorname{mean} w) / \sqrt{\operatorname{var} w + 10^{-10}}` over all weights of a filter,
    var without Bessel's correction; differentiable. A filter of one weight stays as it is.
    """
    if filters[0].numel() == 1:
        return filters
    axes = tuple(range(1, filters.dim()))
    centred = filters - filters.mean(axes, keepdim=True)
    return centred * (centred.square().mean(axes, keepdim=True) + EPSILON).rsqrt()


@final
class StandardisedSign(Quantizer):
    r"""Signs of standardised filters times the mean magnitude of what they stand for.

    Forward :math:`q(w) = \operatorname{mean} |\hat w| \operatorname{sign}(\hat w)` per filter, with :math:`\hat w` of
    :func:`standardised`: as many bits of +1 as of -1, nearly, and a length of the latent weights that does not count.
    Backward: straight through the sign everywhere, exactly through the mean magnitude and the standardisation, which
    takes the part along :math:`w` and the mean out of the gradient.

    IR-Net does the same before its sign. What differs: its scale is rounded to a power of two, its deviation has
    Bessel's correction, and its gradient is a tanh that grows steeper during training.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the scale of each filter, shape (out, 1, ...)."""
        filters = standardised(x)
        return straight_through(filters, signs(filters), filters.new_ones(())), mean_magnitude(filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled signs."""
        codes, scale = self.quantize(x)
        return codes * scale
