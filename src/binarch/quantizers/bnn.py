"""BNN (Courbariaux et al., 2016): one-bit activations with a saturating gradient."""

from typing import final

import torch
from torch import Tensor

from binarch.quantizers.base import StepQuantizer
from binarch.quantizers.straight_through import drawn_signs, inside, sign_steps, signs, straight_through


@final
class ClosedSign(StepQuantizer):
    r"""Signs whose gradient passes in the *closed* window.

    Forward :math:`q(x) = \operatorname{sign}(x)`, backward :math:`\partial L / \partial x = g\,1_{|x| \le 1}`.
    Nothing is learned. The weights of BNN are those of BinaryConnect. CI-Net uses the same rule for its activations
    and, without clipping them, for its weights.

    Differs from :class:`Sign` at exactly +-1 only. From the public Theano code, which rounds half away from zero, so
    that sign(0) = +1; that its clip passes the gradient at +-1 was not checked.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and a scale of one."""
        return straight_through(x, signs(x), inside(x, -1, 1)), x.new_ones(())

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """-1 below 0, +1 from 0 on."""
        return sign_steps()


@final
class StochasticSign(StepQuantizer):
    r"""One-bit activations that are drawn at random in training: BNN's Torch7 code.

    Forward in training :math:`q(x) = +1` with probability :math:`\operatorname{clip}((x + 1) / 2, 0, 1)`, else -1,
    drawn anew for every number; in evaluation :math:`\operatorname{sign}(x)`. Backward
    :math:`\partial L / \partial x = g\,1_{|x| < 1}`, the mask of the hard tanh that stands before it there. Nothing
    is learned. Sure: read; that the published 89.9 % comes from this code is from memory.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a draw (in evaluation: the signs) and a scale of one."""
        codes = drawn_signs(x) if self.training else signs(x)
        return straight_through(x, codes, (x.detach().abs() < 1).to(x.dtype)), x.new_ones(())

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """In evaluation: -1 below 0, +1 from 0 on."""
        return sign_steps()


def ap2(x: Tensor) -> Tensor:
    r"""The nearest power of two, on a logarithmic scale, with the sign of x: sign(x) 2^round(log2 |x|); 0 for 0.

    A product with it is a shift of bits: 3 -> 4, 2.8 -> 2, -0.7 -> -0.5.
    """
    return torch.where(x == 0, 0.0, x.sign() * torch.exp2(x.abs().log2().round()))
