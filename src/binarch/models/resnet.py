"""Residual networks for small images: the three that binarization papers train on CIFAR-10."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import PReLU


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A bias-free 3 x 3 convolution that keeps the map's size at stride 1."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def halve() -> nn.AvgPool2d:
    """A 2 x 2 mean; on odd sizes the last window is what remains, so that the result fits a stride of 2."""
    return nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)


def blocks(stem: int, widths: Sequence[int], per_stage: int) -> Iterator[tuple[int, int, int]]:
    """(inputs, outputs, stride) of each block: every stage but the first starts with a stride of 2."""
    inputs = stem
    for stage, outputs in enumerate(widths):
        for index in range(per_stage):
            yield inputs, outputs, 2 if stage > 0 and index == 0 else 1
            inputs = outputs


def head(inputs: int, classes: int) -> nn.Sequential:
    """(N, C, H, W) -> logits (N, classes): the mean over all pixels, and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


@final
class PaddedShortcut(nn.Module):
    """Option A of He et al. (2015), without parameters: half the resolution, and zeros as the channels that are new.

    (N, C, H, W) -> (N, outputs, H / 2, W / 2), rounded up. The zeros stand on both sides in equal number (one more
    behind, where their number is odd), the old channels, averaged over 2 x 2 pixels, in the middle.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool = halve()
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Average and pad."""
        return functional.pad(self.pool(x), (0, 0, 0, 0, self.before, self.after))


@final
class PaddedBlock(nn.Module):
    """y = conv(ReLU(BN(conv(ReLU(BN(x)))))) + shortcut(x), with the shortcut of :class:`PaddedShortcut` at stride 2.

    ``activated`` says that x comes from a batch norm and a ReLU already; the block then starts with a convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, activated: bool) -> None:
        super().__init__()
        first = [] if activated else [nn.BatchNorm2d(inputs), nn.ReLU()]
        second = nn.BatchNorm2d(outputs), nn.ReLU(), conv3x3(outputs, outputs)
        self.body = nn.Sequential(*first, conv3x3(inputs, outputs, stride), *second)
        self.shortcut = nn.Identity() if stride == 1 else PaddedShortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches."""
        return self.body(x) + self.shortcut(x)


@final
class ResNet20(nn.Sequential):
    """Pre-activation ResNet-20: stages of widths w, 2w, 4w with three blocks of two convolutions each.

    The net of the ternary networks of Zhu et al. (2016). The stem is convolution, batch norm, ReLU; a last batch norm
    and ReLU stand before the head. 269,722 parameters at w = 16 and 10 classes, as many as the net with
    post-activation has. Images (N, 3, H, W) to logits (N, classes).
    """

    def __init__(self, *, width: int = 16, classes: int = 10) -> None:
        shapes = blocks(width, (width, 2 * width, 4 * width), 3)
        parts: dict[str, nn.Module] = {
            "stem": nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.ReLU()),
            "blocks": nn.Sequential(*(PaddedBlock(*shape, activated=n == 0) for n, shape in enumerate(shapes))),
            "last": nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU()),
            "head": head(4 * width, classes),
        }
        super().__init__(OrderedDict(parts))


@final
class BasicBlock(nn.Module):
    """y = ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut(x)); where shapes differ the shortcut is BN(1 x 1 conv)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU()
        self.body = nn.Sequential(*first, conv3x3(outputs, outputs), nn.BatchNorm2d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches and activate."""
        return self.activation(self.body(x) + self.shortcut(x))


@final
class ResNet18(nn.Sequential):
    """ResNet-18 with a stem for small images: stages of widths w, 2w, 4w, 8w with two :class:`BasicBlock` each.

    He et al. (2015) with one 3 x 3 convolution at full resolution in place of the 7 x 7 one and the pool. 11,173,962
    parameters at w = 64 and 10 classes. Images (N, 3, H, W) to logits (N, classes).
    """

    def __init__(self, *, width: int = 64, classes: int = 10) -> None:
        shapes = blocks(width, (width, 2 * width, 4 * width, 8 * width), 2)
        parts: dict[str, nn.Module] = {
            "stem": nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.ReLU()),
            "blocks": nn.Sequential(*(BasicBlock(*shape) for shape in shapes)),
            "head": head(8 * width, classes),
        }
        super().__init__(OrderedDict(parts))


@final
class OneConvBlock(nn.Module):
    """y = PReLU(conv(BN(x)) + shortcut(x)): a shortcut around every convolution, as in Bi-Real nets.

    Where shapes differ the shortcut is a 1 x 1 convolution, a batch norm and, for the stride, a 2 x 2 mean. Nothing
    activates between the batch norm and the convolution: a binary convolution takes signs there. Its filters start from
    N(0, 2 / fan-in).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        convolution = conv3x3(inputs, outputs, stride)
        nn.init.kaiming_normal_(convolution.weight)
        self.body = nn.Sequential(nn.BatchNorm2d(inputs), convolution)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential(*projection, *[halve()] * (stride != 1))
        self.activation = PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Add the two branches and activate."""
        return self.activation(self.body(x) + self.shortcut(x))


@final
class CbcnResNet18(nn.Sequential):
    """The ResNet-18 of CBCN (Liu et al., 2019): stages of widths w, w, 2w, 4w with four :class:`OneConvBlock` each.

    Sixteen block convolutions, each with its own shortcut. CBCN stores a quarter of their filters and rotates those to
    the full widths given here; this is the net that is executed: 2,875,392 numbers in block convolutions and 2,931,594
    in all, at w = 64 and 10 classes. Images (N, 3, H, W) to logits (N, classes).
    """

    def __init__(self, *, width: int = 64, classes: int = 10) -> None:
        shapes = blocks(width, (width, width, 2 * width, 4 * width), 4)
        parts: dict[str, nn.Module] = {
            "stem": nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), PReLU(width)),
            "blocks": nn.Sequential(*(OneConvBlock(*shape) for shape in shapes)),
            "head": head(4 * width, classes),
        }
        super().__init__(OrderedDict(parts))
