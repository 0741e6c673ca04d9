"""BinaryConnect (Courbariaux, Bengio and David, 2015): one-bit weights, real activations."""

from typing import final

from torch import Tensor

from binarch.quantizers.base import Quantizer
from binarch.quantizers.straight_through import drawn_signs, signs, straight_through


@final
class BinaryConnect(Quantizer):
    r"""Deterministic binary weights without a scale.

    Forward :math:`q(w) = \operatorname{sign}(w)`; backward :math:`\partial L / \partial w = g`, no mask: the clip of
    the latent weights to [-1, 1] after each step (:class:`GlorotBoxed`) does a mask's work. Nothing else is learned.

    BNN uses the same weights. Sure: read in the public code, where w = 0 depends on a rounding mode; +1 here. The
    published 90.1 % belongs to this mode (from memory); the public script defaults to the stochastic one.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and a scale of one."""
        return straight_through(x, signs(x), x.new_ones(())), x.new_ones(())


@final
class StochasticBinaryConnect(Quantizer):
    r"""Binary weights drawn anew in every forward pass of training.

    Forward in training :math:`q(w) = +1` with probability :math:`\operatorname{clip}((w + 1) / 2, 0, 1)`, else -1;
    the mean is :math:`\operatorname{clip}(w, -1, 1)`. In evaluation the *real* weights are used, as in the public
    code, so ``bits`` is 32 then. Backward :math:`\partial L / \partial w = g` in both. Published: 8.27 % error.
    """

    @property
    def bits(self) -> int:  # type: ignore[override]
        """1 in training, 32 in evaluation."""
        return 1 if self.training else 32

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a draw (in evaluation: the real weights) and a scale of one."""
        one = x.new_ones(())
        if not self.training:
            return x, one
        return straight_through(x, drawn_signs(x), one), one
