"""Small networks of ReActNet's blocks, shaped for quick training."""

from collections import OrderedDict
from typing import final

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models.resnet import conv3x3, head
from binarch.nn import ChannelBias, PReLU, QuantConv2d, fused
from binarch.quantizers import PolynomialSign


@final
class ReActBlock(nn.Module):
    """y = PReLU(BN(conv(x + b)) + x), with a learned threshold b per channel for the sign before the convolution.

    The block of ReActNet (Liu et al., 2020) without the shifts around its PReLU: the batch norm and the next block's b
    can stand for them. With ``pool`` the largest of each 2 x 2 pixels enter the block, so that no convolution has a
    stride. Where there are more outputs than inputs, a whole multiple, the shortcut repeats its channels.
    """

    def __init__(self, inputs: int, outputs: int, *, pool: bool) -> None:
        super().__init__()
        if outputs % inputs:
            raise UserError(f"outputs: {outputs} is no multiple of {inputs} inputs, which the shortcut repeats")
        convolution = conv3x3(inputs, outputs)
        nn.init.kaiming_normal_(convolution.weight)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.body = nn.Sequential(ChannelBias(inputs), convolution, nn.BatchNorm2d(outputs))
        self.copies = outputs // inputs
        self.activation = PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches and activate."""
        x = self.pool(x)
        shortcut = x if self.copies == 1 else torch.cat([x] * self.copies, 1)
        threshold, convolution, norm = self.body
        if not self._is_quick(x):
            return self.activation(self.body(x) + shortcut)
        assert isinstance(threshold, ChannelBias)
        assert isinstance(convolution, QuantConv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        polynomial = isinstance(convolution.activation_quantizer, PolynomialSign)
        y = convolution.from_signs(fused.biased_signs(x, threshold.bias, polynomial=polynomial))
        return fused.normalised_sum_prelu(y, norm, shortcut, self.activation.weight)

    def _is_quick(self, x: Tensor) -> bool:
        """Whether what stands around the convolution is computed in few passes over memory: see ``fused``."""
        _, convolution, norm = self.body
        signs = isinstance(convolution, QuantConv2d) and convolution.takes_signs
        return signs and fused.fits(x) and fused.counts_batches(norm)


@final
class ReActNet(nn.Sequential):
    """Stages of ``blocks`` :class:`ReActBlock` each, of widths w, 2w, 4w...; sizes halve between them.

    The stem is a convolution, a batch norm and a PReLU: with ``halve`` 4 x 4 of stride 2, so that the first stage works
    at half the images' size, else 3 x 3 of stride 1. A last batch norm stands before the head. Images (N, 3, S, S) to
    logits (N, classes), S a multiple of 8.
    """

    def __init__(self, *, blocks: tuple[int, ...], halve: bool, width: int, classes: int = 10) -> None:
        kernel, stride = (4, 2) if halve else (3, 1)
        stem = nn.Conv2d(3, width, kernel, stride, 1, bias=False), nn.BatchNorm2d(width), PReLU(width)
        stages, inputs = [], width
        for stage, count in enumerate(blocks):
            wide = width << stage
            stages += [ReActBlock(inputs, wide, pool=stage > 0)]
            stages += [ReActBlock(wide, wide, pool=False) for _ in range(count - 1)]
            inputs = wide
        parts: dict[str, nn.Module] = {
            "stem": nn.Sequential(*stem),
            "blocks": nn.Sequential(*stages),
            "last": nn.BatchNorm2d(inputs),
            "head": head(inputs, classes),
        }
        super().__init__(OrderedDict(parts))
