"""A convolution whose input and filters pass through quantizers."""

from typing import final

from torch import Tensor

from binarch.nn import winograd
from binarch.nn.grouped import GroupedProduct
from binarch.nn.phases import merge_phases, pixels, split_phases
from binarch.nn.quant_layer import QuantLayer
from binarch.quantizers import Correction, LatentRule, Quantizer


@final
class QuantConv2d(QuantLayer):
    r"""Convolution :math:`y = \gamma \cdot (q_w(W) \ast q_a(x)) + b`; see :class:`QuantLayer`.

    ``x`` is (N, in, H, W), ``y`` is (N, out, H', W'). ``weight`` holds the latent filters (out, in / groups, k, k);
    ``latent`` gives them a start, and another shape where the quantizer makes the filters from fewer numbers. Zero
    padding adds nothing: it is applied after quantization, so a border pixel sees fewer terms, not a code for zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        weight_quantizer: Quantizer,
        activation_quantizer: Quantizer,
        output_scale: bool = False,
        bias: bool = False,
        latent: Tensor | None = None,
        latent_rule: LatentRule | None = None,
        correction: Correction | None = None,
    ) -> None:
        kernel = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        super().__init__(
            (out_channels, in_channels // groups, *kernel),
            weight_quantizer,
            activation_quantizer,
            output_scale=output_scale,
            bias=bias,
            latent=latent,
            latent_rule=latent_rule,
            correction=correction,
        )
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.product = GroupedProduct(groups)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        halved = x.dim() == 4 and self.dilation in (2, (2, 2)) and self.stride in (1, 2, (1, 1), (2, 2))
        # k // 2 pixels of the phases on each side: what an odd kernel of dilation 2 needs to keep the size
        if halved and self._padding == tuple(k - 1 if k % 2 else -1 for k in self.filter_shape[2:]):
            return self._dilated(x, weight)
        if self._is_quick(x, weight):
            return self._quickly(x, weight)
        convolved: Tensor = self.product(x, weight, self.stride, self.padding, self.dilation)
        return convolved

    def _scaled_product(self, x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        if self.is_binary and self._is_quick(x, weight):
            return winograd.convolve(x, weight, factor.expand(len(weight)).contiguous())
        return super()._scaled_product(x, weight, factor)

    def _is_quick(self, x: Tensor, weight: Tensor) -> bool:
        """Whether Winograd's algorithm takes it: in training, where its rounding is no matter."""
        same = self._padding == tuple(k // 2 for k in self.filter_shape[2:])
        plain = (self.stride, self.dilation, self.groups) in ((1, 1, 1), ((1, 1), (1, 1), 1))
        return self.training and same and plain and winograd.fits(x, weight)

    def _quickly(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sums of codes of one bit are rounded to the integers they are."""
        return winograd.convolve(x, weight, weight.new_ones(len(weight)) if self.is_binary else None)

    @property
    def _padding(self) -> tuple[int, int]:
        return (self.padding, self.padding) if isinstance(self.padding, int) else self.padding

    def _dilated(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with dilation 2 through the map's phases (see ``phases``): the same sums, sooner."""
        padding = self._padding[0] // 2, self._padding[1] // 2
        even = self.stride in (2, (2, 2))
        phases = pixels(x, 0, 2) if even else split_phases(x)
        if self.training and self.groups == 1 and winograd.fits(phases, weight):
            phases = self._quickly(phases, weight)
        else:
            phases = self.product(phases, weight, 1, padding, 1)
        return phases if even else merge_phases(phases, *x.shape[2:])
