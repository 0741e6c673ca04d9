"""No quantization: the real-valued member of the family."""

from typing import final

from torch import Tensor

from binarch.quantizers.base import Quantizer


@final
class Identity(Quantizer):
    r"""Pass real numbers through.

    Forward :math:`q(x) = x`; backward :math:`\partial q / \partial x = 1`.
    """

    bits = 32

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x`` itself and a scale of one."""
        return x, x.new_ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x
