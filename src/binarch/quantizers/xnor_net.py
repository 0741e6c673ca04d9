"""XNOR-Net (Rastegari et al., 2016): one-bit filters with an analytic scale."""

from typing import Literal, final

from torch import Tensor
from torch.nn import functional

from binarch.errors import choose
from binarch.quantizers.base import Correction, Quantizer
from binarch.quantizers.straight_through import inside, mean_magnitude, signs, straight_through

#: ``exact``: the derivative of scale times sign; ``published``: the one in the paper and in the authors' code.
XnorGradient = Literal["exact", "published"]


@final
class XnorWeight(Quantizer):
    r"""Signs of a filter times its mean absolute value.

    Forward, with :math:`n` weights in a filter :math:`w` of the bank (out, in / groups, k, k): :math:`q(w) = \alpha
    \operatorname{sign}(w)`, :math:`\alpha = \operatorname{mean} |w|`. The latent weights are centred and clipped
    beforehand (:class:`CentredBoxed`). Backward, with :math:`C` input channels and :math:`g = \partial L / \partial
    q`:

    - ``exact``: :math:`\partial L / \partial w_i = n (1 - \tfrac1C) \bigl[\alpha 1_{|w_i| \le 1} g_i +
      \tfrac{\operatorname{sign}(w_i)}{n} \sum_j \operatorname{sign}(w_j) g_j \bigr]`, the derivative of :math:`q`
      with a straight-through sign, as in a public PyTorch code that corrects the authors';
    - ``published``: :math:`n (1 - \tfrac1C)\, g_i \bigl[\tfrac1n + \alpha 1_{|w_i| < 1} \bigr]`: the formula of the
      paper, in which the sum over the filter is lost.

    :math:`1 - 1/C` stands for the derivative of the centring (its diagonal only). The factor n makes up for the small
    scale with SGD; Adam divides it out. A limit on the norm of all gradients together sees mostly these, so train
    without one (``--clip 1e9``). The authors' code multiplies all gradients by 1e9 with Adam instead. With one
    input channel nothing is centred, and the factor is left out here. Sure: both formulas were read. Nothing is
    learned.
    """

    bits = 1

    def __init__(self, gradient: XnorGradient = "exact") -> None:
        super().__init__()
        self.gradient = choose("gradient", gradient, ("exact", "published"))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the scale of each filter, shape (out, 1, 1, 1)."""
        n = x[0].numel()
        gain = n * (1 - 1 / x.shape[1] if x.shape[1] > 1 else 1.0)
        alpha = mean_magnitude(x.detach())
        if self.gradient == "published":
            slope = (x.detach().abs() < 1).to(x.dtype) + 1 / (n * alpha).clamp(min=1e-12)
            return straight_through(x, signs(x), gain * slope), alpha
        latent = straight_through(x, x, x.new_tensor(gain))
        return straight_through(latent, signs(x), inside(x, -1, 1)), mean_magnitude(latent)


@final
class InputScale(Correction):
    r"""XNOR-Net's scale of the activations, as the paper has it.

    Forward: counts times :math:`K = A * k`, where :math:`A` is the mean of :math:`|x|` over all channels
    (N, 1, H, W) and :math:`k` a box filter of :math:`1 / (k_h k_w)` with the convolution's geometry.
    Backward: exactly, through A too. Both public codes leave it out, and so does the scheme unless asked for. Such
    layers cannot be packed.
    """

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation

    def forward(self, counts: Tensor, x: Tensor) -> Tensor:
        """Scale the counts."""
        mean = x.abs().mean(1, keepdim=True)
        box = mean.new_full((1, 1, *self.kernel), 1 / (self.kernel[0] * self.kernel[1]))
        return counts * functional.conv2d(mean, box, None, self.stride, self.padding, self.dilation)
