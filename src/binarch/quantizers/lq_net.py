"""LQ-Nets (Zhang et al., 2018): quantizers whose levels are fitted to what they quantize."""

from functools import cache
from math import prod, sqrt
from typing import final

import torch
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers.base import Quantizer, StepQuantizer
from binarch.quantizers.straight_through import just_above, straight_through

#: How much of the old basis stays in each step.
MEMORY = 0.9
#: Pull towards the old basis, as if it had been seen so many times: keeps the fit solvable when a code never occurs.
ANCHOR = 1e-4


@cache
def binary_codes(bits: int, low: int) -> tuple[tuple[int, ...], ...]:
    """All 2^bits combinations of ``low`` and 1, the lowest bit running fastest."""
    return tuple(tuple(1 if number >> j & 1 else low for j in range(bits)) for number in range(2**bits))


def ordered_levels(basis: Tensor, low: int) -> tuple[Tensor, Tensor]:
    """Levels v.e of a basis (..., K), ascending, and the codes e that make them: (..., 2^K), (..., 2^K, K)."""
    codes = torch.tensor(binary_codes(basis.shape[-1], low)).to(basis)
    levels, order = (codes * basis.unsqueeze(-2)).sum(-1).sort()  # no matrix product: mixed precision would shorten it
    return levels, codes[order]


def middles(levels: Tensor) -> Tensor:
    """Midpoints of neighbours."""
    return 0.5 * levels[..., :-1] + 0.5 * levels[..., 1:]


def fitted(basis: Tensor, codes: Tensor, count: Tensor, total: Tensor) -> Tensor:
    r"""One step of QEM (quantization error minimization): the basis that fits numbers best whose codes are given.

    :math:`v = (B^\top B + \epsilon I)^{-1} (B^\top x + \epsilon v_{old})`, from ``count`` (..., L), how many numbers
    have each of the codes (..., L, K), and ``total`` (..., L), their sums. Then a moving average:
    :math:`0.9\,v_{old} + 0.1\,v`.
    """
    weighted = codes * count.unsqueeze(-1)
    gram = (codes.unsqueeze(-1) * weighted.unsqueeze(-2)).sum(-3) + ANCHOR * torch.eye(basis.shape[-1]).to(basis)
    moment = (codes * total.unsqueeze(-1)).sum(-2) + ANCHOR * basis
    return MEMORY * basis + (1 - MEMORY) * torch.linalg.solve(gram, moment)


def require_bits(bits: int) -> int:
    """1 to 4, or a :class:`UserError`."""
    if not 1 <= bits <= 4:
        raise UserError(f"bits: {bits} is not possible; use 1, 2, 3 or 4")
    return bits


@final
class LqWeight(Quantizer):
    r"""Filters on the levels :math:`v \cdot e,\ e \in \{-1, +1\}^K`, with one basis :math:`v` of K numbers per filter.

    Forward: the level of the interval that w lies in, thresholds at the midpoints of neighbours, upward strictly
    above. With one bit :math:`q(w) = v` where w > 0, else -v. Backward :math:`\partial L / \partial w = g`, no mask,
    no factor. The basis gets no gradient: each training step fits it once to the filter (:func:`fitted`), *after* it
    was used. It starts at :math:`v_j = 2^j \cdot 0.6745 \sqrt{2 / n} / 2^{K-1}`, n = k k out.

    Sure: read in the public code. With one bit v is a moving average of mean |w|, so that the method's gain lies in the
    activations. The codes of ``quantize`` are +-1 for one bit, the levels themselves (scale 1) for more.
    """

    basis: Tensor

    def __init__(self, filters: Tensor, bits: int = 1) -> None:
        super().__init__()
        self.bits = require_bits(bits)
        n = filters.shape[0] * prod(filters.shape[2:])
        start = 0.6745 * sqrt(2 / n) / 2 ** (bits - 1) * 2 ** torch.arange(bits, device=filters.device).float()
        self.register_buffer("basis", start.repeat(filters.shape[0], 1))

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes and the scale of each filter; in training, fit the basis for the next step."""
        flat = x.detach().flatten(1).to(self.basis.dtype)
        levels, codes = ordered_levels(self.basis, -1)
        index = (flat.unsqueeze(-1) > middles(levels).unsqueeze(1)).sum(-1)
        if self.training:
            chosen = torch.nn.functional.one_hot(index, levels.shape[1]).to(flat)
            fit = fitted(self.basis, codes, chosen.sum(1), (chosen * flat.unsqueeze(-1)).sum(1))
        per_filter = (-1, *[1] * (x.dim() - 1))
        if self.bits == 1:
            scale = levels[:, 1].clone().to(x.dtype).view(per_filter)
            result = straight_through(x, (index * 2 - 1).to(x.dtype).view_as(x), 1 / scale.clamp(min=1e-12)), scale
        else:
            values = levels.gather(1, index).to(x.dtype).view_as(x)
            result = straight_through(x, values, x.new_ones(())), x.new_ones(())
        if self.training:
            self.basis.copy_(fit)
        return result


@final
class LqActivation(StepQuantizer):
    r"""Activations on the levels :math:`v \cdot e,\ e \in \{0, 1\}^K`, with one basis :math:`v` of K numbers per layer.

    Forward: the level of the interval that x lies in, thresholds at the midpoints of neighbours, upward strictly above.
    Backward :math:`\partial L / \partial x = g\,1_{x \le \max}`, max being the largest level; a ReLU before it does the
    rest. The basis gets no gradient: each training step fits it once to the batch (:func:`fitted`), after it was used.
    It starts at :math:`v_j = 2^j \cdot 0.6745 \cdot 2 / (2^K - 1)`: for two bits levels 0, 0.450, 0.899, 1.349.

    Sure: read in the public code, which has no pull towards the old basis here and divides by zero where a code never
    occurs. The codes of ``quantize`` are 0 and 1 for one bit, the levels themselves (scale 1) for more.
    """

    basis: Tensor

    def __init__(self, bits: int = 2) -> None:
        super().__init__()
        self.bits = require_bits(bits)
        self.register_buffer("basis", 0.6745 * 2 / (2**bits - 1) * 2 ** torch.arange(bits).float())

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes and the scale; in training, fit the basis for the next step."""
        levels, codes = ordered_levels(self.basis, 0)
        flat = x.detach().to(self.basis.dtype)
        above = [flat > threshold for threshold in middles(levels)]
        slope = (flat <= levels[-1]).to(x.dtype)
        if self.bits == 1:
            scale = self.basis.sum().to(x.dtype)
            result = straight_through(x, above[0].to(x.dtype), slope / scale), scale
        else:
            values = torch.zeros_like(flat) + levels[0]
            for mask, level in zip(above, levels[1:], strict=True):
                values = torch.where(mask, level, values)
            result = straight_through(x, values.to(x.dtype), slope), x.new_ones(())
        if self.training:
            count = torch.stack([flat.new_tensor(flat.numel()), *(mask.sum().to(flat) for mask in above)])
            total = torch.stack([flat.sum(), *((flat * mask).sum() for mask in above)])
            none = flat.new_zeros(1)
            self.basis.copy_(fitted(self.basis, codes, -count.diff(append=none), -total.diff(append=none)))
        return result

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes rise above the midpoints."""
        levels, _ = ordered_levels(self.basis.detach().cpu(), 0)
        thresholds = just_above(middles(levels))
        if self.bits == 1:
            return thresholds, torch.tensor([0.0, 1.0]), self.basis.sum().cpu()
        return thresholds, levels, torch.ones(())
