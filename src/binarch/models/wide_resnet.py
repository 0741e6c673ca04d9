"""Wide residual networks of 40 layers."""

from collections import OrderedDict
from typing import final

from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models.resnet import blocks, conv3x3, head


@final
class WideBlock(nn.Module):
    """a = ReLU(BN(x)); y = conv(ReLU(BN(conv(a)))) + x, where shapes differ with a 1 x 1 convolution of a for x."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        second = nn.BatchNorm2d(outputs), nn.ReLU(), conv3x3(outputs, outputs)
        self.body = nn.Sequential(conv3x3(inputs, outputs, stride), *second)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches."""
        activated = self.activation(x)
        return self.body(activated) + (x if self.shortcut is None else self.shortcut(activated))


@final
class WideResNet40(nn.Sequential):
    """WRN-40-k of Zagoruyko and Komodakis (2016): stages of widths w, 2w, 4w with six pre-activation blocks each.

    ``width`` is w, that of the first stage; the stem, one convolution, has w / k channels for ``widen`` = k. With the
    stem's 16 channels of the literature w is 16 k. Parameters at 10 classes: 563,930 for w = 16, k = 1; 2,243,546 for
    w = 32, k = 2; 8,949,210 for w = 64, k = 4; 8,977,226 for w = 64, k = 1. No dropout. Images (N, 3, H, W) to logits
    (N, classes).
    """

    def __init__(self, *, width: int = 16, widen: int = 1, classes: int = 10) -> None:
        if width % widen:
            raise UserError(
                f"width: {width} is not possible; the stem has width / {widen} channels, so use a multiple of {widen}"
            )
        stem = width // widen
        parts: dict[str, nn.Module] = {
            "stem": conv3x3(3, stem),
            "blocks": nn.Sequential(*(WideBlock(*shape) for shape in blocks(stem, (width, 2 * width, 4 * width), 6))),
            "last": nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU()),
            "head": head(4 * width, classes),
        }
        super().__init__(OrderedDict(parts))
