"""The straightforward form of our layers, as anybody would write them: slow, and the truth of the quick ones."""

import copy
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn.prelu import PReLU
from binarch.nn.quant_conv import QuantConv2d
from binarch.quantizers import Sign
from binarch.quantizers.straight_through import signs


@final
class _PlainSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 1)


@final
class PlainConv2d(nn.Module):
    """A :class:`QuantConv2d` without its shortcuts: quantize the input, quantize the filters, convolve, scale."""

    def __init__(self, layer: QuantConv2d) -> None:
        super().__init__()
        assert layer.correction is None, "corrections are part of quick layers only"
        self.weight, self.scale, self.bias = layer.weight, layer.scale, layer.bias
        self.weight_quantizer, self.activation_quantizer = layer.weight_quantizer, layer.activation_quantizer
        self.geometry: Any = layer.stride, layer.padding, layer.dilation, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, in, H, W)."""
        codes, scale = self.weight_quantizer.quantize(self.weight)
        binary = isinstance(self.activation_quantizer, Sign)
        x = _PlainSign.apply(x) if binary else self.activation_quantizer(x)
        y = functional.conv2d(x, codes, None, *self.geometry) * scale.view(1, -1, 1, 1)
        if self.scale is not None:
            y = y * self.scale.view(1, -1, 1, 1)
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)


def plain(network: nn.Module) -> nn.Module:
    """A copy of ``network`` whose quick layers are straightforward ones: the same parameters under the same names.

    Convolutions with dilation are left to PyTorch, the sign is a comparison and a mask, PReLU is PyTorch's. Outputs and
    gradients are those of ``network`` up to the rounding of sums.
    """
    around = nn.ModuleList([copy.deepcopy(network)])  # a parent for the network itself, which may be one layer
    for parent in list(around.modules()):
        for name, child in parent.named_children():
            if isinstance(child, QuantConv2d):
                setattr(parent, name, PlainConv2d(child))
            elif isinstance(child, PReLU):
                activation = nn.PReLU(len(child.weight))
                activation.weight = child.weight
                setattr(parent, name, activation)
    return around[0]
