"""HWGQ (Cai et al., 2017): one-bit filters, activations quantized for a half-wave Gaussian."""

from typing import final

import torch
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers.base import Quantizer, StepQuantizer
from binarch.quantizers.straight_through import inside, just_above, mean_magnitude, signs, straight_through

#: The best step for the positive half of N(0, 1), per number of bits: Lloyd's condition under equal steps that begin at
#: zero. For 2 bits the public code's 0.538 (the optimum is 0.53881).
STEPS = {1: 0.79788, 2: 0.538, 3: 0.32173, 4: 0.18424}


@final
class HwgqWeight(Quantizer):
    r"""Signs of a filter times its mean absolute value, with an unscaled gradient.

    Forward :math:`q(w) = \alpha \operatorname{sign}(w)`, :math:`\alpha = \operatorname{mean} |w|` per filter. Backward
    :math:`\partial L / \partial w = g = \partial L / \partial q`: no factor :math:`\alpha`, no mask, no derivative of
    :math:`\alpha`; latent weights are neither centred nor clipped, and decay. The opposite of XNOR-Net in all of these.
    Sure: read in the public code. Nothing is learned.
    """

    bits = 1

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signs and the scale of each filter, shape (out, 1, 1, 1)."""
        alpha = mean_magnitude(x.detach())
        return straight_through(x, signs(x), 1 / alpha.clamp(min=1e-12)), alpha


@final
class HalfWave(StepQuantizer):
    r"""Activations of 1 to 4 bits: 0, d, 2d, ... with the step d that suits a normalised map.

    Forward, with :math:`m = 2^{bits} - 1`: 0 where :math:`x \le 0`; otherwise the nearest of :math:`d, 2d, \dots, m d`.
    Thresholds are their midpoints, upper ends inclusive, so *every* positive number gives at least d. Backward
    :math:`\partial L / \partial x = g\,1_{0 < x \le m d}`, the clipped ReLU. Nothing is learned: d is a constant
    (:data:`STEPS`) that holds behind a batch norm *without* scale and shift.

    Sure: read in the public code for 2 bits; the other constants were computed.
    """

    def __init__(self, bits: int = 2) -> None:
        super().__init__()
        if bits not in STEPS:
            raise UserError(f"bits: {bits} is not possible; use one of {', '.join(map(str, STEPS))}")
        self.bits = bits

    @property
    def step(self) -> float:
        """The step d."""
        return STEPS[self.bits]

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0, 1, ..., 2^bits - 1 and the step."""
        wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))  # as precise as steps()
        thresholds = self._thresholds().tolist()
        codes = torch.zeros_like(x.detach())
        for threshold in thresholds:
            codes += wide > threshold
        passed = inside(x.detach(), 0, len(thresholds) * self.step) * (x.detach() > 0)
        return straight_through(x, codes, passed / self.step), x.new_tensor(self.step)

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes rise above (not at) 0, 1.5 d, 2.5 d, ..."""
        thresholds = self._thresholds()
        return just_above(thresholds), torch.arange(len(thresholds) + 1.0), torch.tensor(self.step)

    def _thresholds(self) -> Tensor:
        middles = [self.step * (j + 0.5) for j in range(1, 2**self.bits - 1)]
        return torch.tensor([0.0, *middles])
