"""A convolution whose input and filters pass through quantizers."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn.phases import merge_phases, split_phases
from binarch.quantizers import Quantizer


@final
class QuantConv2d(nn.Module):
    r"""Bias-free convolution :math:`y = \gamma \cdot (q_w(W) \ast q_a(x))`.

    ``x`` is (N, in, H, W), ``y`` is (N, out, H', W'). ``weight`` holds the latent filters
    (out, in / groups, k, k). ``output_scale`` adds :math:`\gamma`, one learned factor per output channel that
    starts at 1 (XNOR-Net++, Bulat and Tzimiropoulos, 2019). Real filters take it in before the convolution, which is
    the same number at a fraction of the work. Codes of +-1 are summed first and scaled then: the sums are integers and
    exact, so a zero is a zero, here as in a packed network. Zero padding adds nothing: it is applied after
    quantization, so a border pixel sees fewer terms, not a code for zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
        weight_quantizer: Quantizer,
        activation_quantizer: Quantizer,
        output_scale: bool = False,
    ) -> None:
        super().__init__()
        kernel = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        if dilation != 1 and (dilation != 2 or stride not in (1, 2) or padding != 2 * (kernel[0] // 2)):
            raise UserError(
                f"dilation: {dilation} with stride {stride}, padding {padding}, kernel {kernel_size} is not possible; "
                "use dilation 1, or 2 with stride 1 or 2 and a padding of 2 * (kernel // 2)"
            )
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *kernel))
        self.scale = nn.Parameter(torch.ones(out_channels)) if output_scale else None
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    @property
    def is_binary(self) -> bool:
        """Whether both operands carry one bit, so that the packed convolution counts bits."""
        return self.weight_quantizer.bits == 1 and self.activation_quantizer.bits == 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        weight, scale = self.weight_quantizer.quantize(self.weight)
        factor = scale.flatten()
        if self.scale is not None:
            factor = factor * self.scale
        code = self.activation_quantizer(x)
        if self.weight_quantizer.bits == 1:
            return self._convolve(code, weight) * factor.view(1, -1, 1, 1)
        return self._convolve(code, weight * factor.view(-1, 1, 1, 1))

    def _convolve(self, code: Tensor, weight: Tensor) -> Tensor:
        if self.dilation == 1:
            return functional.conv2d(code, weight, None, self.stride, self.padding, 1, self.groups)
        return self._dilated(code, weight)

    def _dilated(self, code: Tensor, weight: Tensor) -> Tensor:
        """Convolve with dilation 2 through the map's phases (see ``phases``): the same sums, sooner."""
        assert isinstance(self.padding, int)
        padding = self.padding // 2
        if self.stride == 2:
            return functional.conv2d(code[..., ::2, ::2], weight, None, 1, padding, 1, self.groups)
        phases = functional.conv2d(split_phases(code), weight, None, 1, padding, 1, self.groups)
        return merge_phases(phases, *code.shape[2:])
