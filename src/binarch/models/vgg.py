"""VGG-small: the network of most binarization papers on CIFAR-10."""

from typing import final

from torch import nn

from binarch.errors import UserError
from binarch.nn import Binarization, StemConv2d


@final
class VggSmall(nn.Sequential):
    """Six 3 x 3 convolutions of widths w, w, 2w, 2w, 4w, 4w, a 2 x 2 max pool after every second one, one real linear.

    Convolution, [pool], batch norm, sign: the pool stands before the batch norm, where it still chooses among many
    values. The first convolution and the linear layer are real. This is the net of HWGQ, LQ-Nets and later papers
    (4,660,106 parameters at w = 128 and 10 classes); that of BinaryConnect and BNN has two hidden linear layers more.
    """

    def __init__(
        self, binarization: Binarization, *, width: int = 128, classes: int = 10, image_size: int = 32
    ) -> None:
        if width < 1:
            raise UserError(f"width: {width} is not possible; use 1 or more")
        if image_size < 8 or image_size % 8:
            raise UserError(f"image_size: {image_size} is not possible; use a multiple of 8")
        layers: list[nn.Module] = [StemConv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        inputs = width
        for index, outputs in enumerate((width, 2 * width, 2 * width, 4 * width, 4 * width)):
            layers.append(binarization.conv(inputs, outputs, 3, padding=1))
            if index % 2 == 0:
                layers.append(nn.MaxPool2d(2))
            layers.append(nn.BatchNorm2d(outputs))
            inputs = outputs
        super().__init__(*layers, nn.Hardtanh(), nn.Flatten(), nn.Linear(inputs * (image_size // 8) ** 2, classes))
