"""What quantized convolutions and linear layers share."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.quantizers import Correction, Free, LatentRule, PolynomialSign, Quantizer, Sign, StepQuantizer


class Stair(NamedTuple):
    """One step of a staircase: from ``threshold`` on, the value is higher by ``rise``."""

    threshold: Tensor
    rise: Tensor


class Shape2d(NamedTuple):
    """Inputs per filter and the geometry of a convolution."""

    inputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, layer: nn.Module) -> "Shape2d":
        """That of a convolution, ours or PyTorch's."""
        weight = layer.weight
        assert isinstance(weight, Tensor)
        return cls(weight.shape[1], _pair(weight.shape[2:]), *map(_pair, (layer.stride, layer.padding, layer.dilation)))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def stairs(quantizer: StepQuantizer) -> list[Stair]:
    """A staircase as a sum of one-bit maps: q(x) = sum of rise * [x >= threshold], the lowest stair from -inf on."""
    thresholds, codes, scale = quantizer.steps()
    heights = codes * scale
    ground = [Stair(torch.tensor(-torch.inf), heights[0])] if heights[0] != 0 else []
    return ground + [Stair(*pair) for pair in zip(thresholds, heights.diff(), strict=True)]


def uneven(quantizer: Quantizer) -> TypeGuard[StepQuantizer]:
    """Whether the codes of activations are no integers."""
    return isinstance(quantizer, StepQuantizer) and quantizer.bits > 1 and bool((quantizer.steps()[1] % 1 != 0).any())


class QuantLayer(nn.Module, ABC):
    r"""A product of quantized inputs with quantized weights: :math:`y = \gamma\, c(q_w(W) \ast q_a(x)) + b`.

    ``weight`` holds the latent weights. ``scale`` is :math:`\gamma`, one learned factor per output that starts at 1
    (XNOR-Net++, Bulat and Tzimiropoulos, 2019; smaller in ``standardised`` cells), ``bias`` b; either may be None.
    ``correction`` is what a method does to the sums of codes, before they are scaled; ``latent_rule`` what it does to
    latent weights besides the optimizer's step.

    Real weights take their factors in before the product, which is the same number at a fraction of the work. Codes are
    summed first and scaled then: sums of integers are exact, so a zero is a zero, here as in a packed network. For the
    same reason evaluation sums in double where the inputs are real and the weights are codes, and stair by stair
    (:func:`stairs`) where the codes of the inputs are no integers.
    """

    def __init__(
        self,
        filter_shape: tuple[int, ...],
        weight_quantizer: Quantizer,
        activation_quantizer: Quantizer,
        *,
        output_scale: bool = False,
        bias: bool = False,
        latent: Tensor | None = None,
        latent_rule: LatentRule | None = None,
        correction: Correction | None = None,
    ) -> None:
        super().__init__()
        for quantizer in (weight_quantizer, activation_quantizer):
            if correction is not None and (quantizer.bits == 32 or uneven(quantizer)):
                raise UserError(
                    f"{type(correction).__name__}: needs integer codes, not {type(quantizer).__name__}'s; leave it out"
                )
        self.filter_shape = filter_shape
        self.weight = nn.Parameter(torch.empty(filter_shape) if latent is None else latent)
        self.scale = nn.Parameter(torch.ones(filter_shape[0])) if output_scale else None
        self.bias = nn.Parameter(torch.zeros(filter_shape[0])) if bias else None
        self.weight_quantizer, self.activation_quantizer = weight_quantizer, activation_quantizer
        self.latent_rule: LatentRule = Free() if latent_rule is None else latent_rule
        self.correction = correction
        if latent is None:
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    @property
    def is_binary(self) -> bool:
        """Whether both operands carry one bit, so that the packed product counts bits."""
        return self.weight_quantizer.bits == 1 and self.activation_quantizer.bits == 1

    def settle(self) -> None:
        """Bring the latent weights to where they may be; call it after each step of the optimizer."""
        self.latent_rule.settle(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        codes, factor = self._codes()
        if self.weight_quantizer.bits < 32:
            y = self._sum_of_codes(x, codes, factor)
        else:
            y = self._product(self.activation_quantizer(x), codes * self._per_filter(factor, codes))
        return y if self.bias is None else y + self._per_output(self.bias)

    @property
    def takes_signs(self) -> bool:
        """Whether the input's codes are its signs, as they are: what :meth:`from_signs` can be given."""
        return isinstance(self.activation_quantizer, Sign | PolynomialSign) and self.correction is None

    def from_signs(self, signs: Tensor) -> Tensor:
        """The output, given the signs of an input, which carry their own gradient.

        Signs of bfloat16 meet filters that have been scaled before: each filter's codes are still one number and its
        opposite, so sums of them are exact, and zero where they should be, until they are rounded at the end.
        """
        if self.weight_quantizer.bits < 32 and signs.dtype == torch.float32:
            codes, factor = self._codes()
            y = self._scaled_product(signs, codes, factor)
        else:
            weight = self.weight_quantizer(self.weight)
            y = self._product(signs, weight if self.scale is None else weight * self._per_filter(self.scale, weight))
        return y if self.bias is None else y + self._per_output(self.bias)

    def _codes(self) -> tuple[Tensor, Tensor]:
        """The codes of the weights, and one factor per output (or one for all)."""
        codes, scale = self.weight_quantizer.quantize(self.weight)
        return codes, scale.flatten() if self.scale is None else scale.flatten() * self.scale

    @abstractmethod
    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        """The product itself."""

    def _sum_of_codes(self, x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        quantizer = self.activation_quantizer
        if not self.training and uneven(quantizer):
            return self._stair_by_stair(x, weight, factor, stairs(quantizer))
        codes, scale = quantizer.quantize(x)
        if not self.training and quantizer.bits == 32 and x.dtype == torch.float32:
            counts = self._product(codes.double(), weight.double()).to(x.dtype)
        elif self.correction is None:
            return self._scaled_product(codes, weight, factor * scale)
        else:
            counts = self._product(codes, weight)
        if self.correction is not None:
            counts = self.correction(counts, x)
        return counts * self._per_output(factor * scale)

    def _scaled_product(self, x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        """The product of codes, scaled."""
        return self._product(x, weight) * self._per_output(factor)

    def _stair_by_stair(self, x: Tensor, weight: Tensor, factor: Tensor, steps: list[Stair]) -> Tensor:
        parts, wide = [], x.to(torch.promote_types(x.dtype, torch.float32))  # as precise as the thresholds
        for stair in steps:
            counts = self._product((wide >= stair.threshold.to(wide)).to(x.dtype), weight)
            parts.append(counts * self._per_output(factor * stair.rise.to(x)))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _per_output(self, values: Tensor) -> Tensor:
        """One value per output (or one for all), in the shape that multiplies (N, out, H, W) or (..., out)."""
        return values.view(-1, *[1] * (len(self.filter_shape) - 2))

    @staticmethod
    def _per_filter(values: Tensor, weight: Tensor) -> Tensor:
        return values.view(-1, *[1] * (weight.dim() - 1))
