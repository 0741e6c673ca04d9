"""BNN (Courbariaux et al., 2016): one-bit activations with a saturating gradient."""

from typing import final

import torch
from torch import Tensor

from binarch.quantizers.base import StepQuantizer
from binarch.quantizers.straight_through import inside, signs, straight_through


@final
class ClosedSign(StepQuantizer):
    r"""One-bit activations whose gradient passes in the *closed* window.

    Forward :math:`q(x) = \operatorname{sign}(x)`, backward :math:`\partial L / \partial x = g\,1_{|x| \le 1}`.
    Nothing is learned. The weights of BNN are those of BinaryConnect. CI-Net uses the same rule for its weights and
    activations.

    Differs from :class:`Sign` at exactly +-1 only. From the public Theano code, which rounds half away from zero, so
    that sign(0) = +1; that its clip passes the gradient at +-1 was not checked. The Torch code, to which the published
    89.9 % belongs (from memory), draws activations at random in training; that is not done here.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and a scale of one."""
        return straight_through(x, signs(x), inside(x, -1, 1)), x.new_ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Return the signs."""
        return self.quantize(x)[0]

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """-1 below 0, +1 from 0 on."""
        return torch.zeros(1), torch.tensor([-1.0, 1.0]), torch.ones(())
