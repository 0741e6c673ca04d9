"""VGG-small: the network of most binarization papers on CIFAR-10."""

from typing import final

from torch import Tensor, nn

from binarch.errors import UserError
from binarch.nn import through


@final
class VggSmall(nn.Sequential):
    """Six 3 x 3 convolutions of widths w, w, 2w, 2w, 4w, 4w, a 2 x 2 max pool after every second one, a classifier.

    Convolution, [pool], batch norm, ReLU: the pool stands before the batch norm, so that a quantizer in the place of
    the ReLU does not leave the pool two values to choose from. Images are (N, 3, S, S) float with S a multiple of 8;
    outputs are (N, classes).

    Two nets carry this name. ``hidden=0`` is that of HWGQ, LQ-Nets and later papers: no biases but the classifier's,
    one linear layer, 4,660,106 parameters at w = 128 and 10 classes. With ``hidden`` it is the one of BinaryConnect,
    BNN and XNOR-Net: two linear layers of that many units before the classifier, a batch norm behind every layer, the
    last one included, and biases although batch norms follow; 14,033,566 parameters at w = 128 and ``hidden=1024``.

    Without hidden layers convolutions start from N(0, 2 / fan-in), as HWGQ's do (He et al., 2015); with them from
    PyTorch's uniform numbers, which BinaryConnect and BNN stretch to U(-1, 1).
    """

    def __init__(self, *, width: int = 128, classes: int = 10, image_size: int = 32, hidden: int = 0) -> None:
        if width < 1:
            raise UserError(f"width: {width} is not possible; use 1 or more")
        if image_size < 8 or image_size % 8:
            raise UserError(f"image_size: {image_size} is not possible; use a multiple of 8")
        if hidden < 0:
            raise UserError(f"hidden: {hidden} is not possible; use 0 for no hidden layers, or their number of units")
        layers: list[nn.Module] = []
        inputs = 3
        for index, outputs in enumerate((width, width, 2 * width, 2 * width, 4 * width, 4 * width)):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=hidden > 0)
            if not hidden:
                nn.init.kaiming_normal_(convolution.weight)
            layers.append(convolution)
            if index % 2 == 1:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        layers.append(nn.Flatten())
        inputs *= (image_size // 8) ** 2
        for units in (hidden, hidden) if hidden else ():
            layers += [nn.Linear(inputs, units), nn.BatchNorm1d(units), nn.ReLU()]
            inputs = units
        layers.append(nn.Linear(inputs, classes))
        if hidden:
            layers.append(nn.BatchNorm1d(classes))
        super().__init__(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images."""
        return through(self, images)
