"""Networks of ordinary torch layers, packed; and layers that cannot be."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from random_networks import MEAN, STD, some_images, stirred, torch_logits
from torch import Tensor, nn

from binarch.deploy import Builder, lower, pack_network, register
from binarch.errors import UserError
from binarch.nn import ChannelShuffle, DropPath, ExactConv2d, PReLU, QuantConv2d, ShiftedPair, Zero
from binarch.quantizers import CentredSign, Identity, Quantizer, Sign
from binarch.runtime import Network, Program, reference
from binarch.spaces.bats import Residual
from binarch.spaces.parts import SpatialMean

torch.set_num_threads(1)


def binary(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, **options: object) -> QuantConv2d:
    quantizers = {"weight_quantizer": CentredSign(), "activation_quantizer": Sign(), "padding": 1}
    return QuantConv2d(inputs, outputs, kernel, **(quantizers | options))  # type: ignore[arg-type]


def packed(network: nn.Module, size: tuple[int, int], classes: int = 10) -> Program:
    card = {"classes": [str(k) for k in range(classes)]}
    return pack_network(network, size=size, mean=MEAN, std=STD, card=card)


def assert_packed(network: nn.Module, size: tuple[int, int], classes: int = 10) -> Program:
    program = packed(network, size, classes)
    images = some_images(3, size)
    expected = torch_logits(network, images).reshape(3, -1)
    slow = reference.run(program, images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert abs(slow - expected).max() <= 1e-5 * abs(expected).max()
    np.testing.assert_array_equal(Network(program).run(images), slow)
    return program


def vgg(size: tuple[int, int]) -> nn.Sequential:
    """Convolution, pool, batch norm, hard tanh, six times; three fully connected layers."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Hardtanh()]
    for inputs, outputs, pooled in ((16, 16, True), (16, 32, False), (32, 32, True), (32, 48, False), (48, 48, True)):
        layers += [binary(inputs, outputs), *[nn.MaxPool2d(2)] * pooled, nn.BatchNorm2d(outputs), nn.Hardtanh()]
    pixels = (size[0] // 8) * (size[1] // 8)
    layers += [nn.Flatten(), nn.Linear(48 * pixels, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 10)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("size", [(32, 32), (16, 24), (25, 19)], ids=str)
def test_a_network_like_vgg(size: tuple[int, int]) -> None:
    network = stirred(vgg(size))
    program = assert_packed(network, size)
    assert sum(op.name == "bitconv" for op in program.ops) == 5
    assert sum(op.name == "affine" for op in program.ops) == 2  # before the linear layers; the others are thresholds


def body(channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(binary(channels, channels, stride=stride), nn.BatchNorm2d(channels))


# What stands between a real stem and the end of a network; from 12 channels to 12.
MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(12),
    "batch norm without affine": lambda: nn.BatchNorm2d(12, affine=False),
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "hard tanh with bounds": lambda: nn.Hardtanh(-0.5, 2.0),
    "PReLU of torch": lambda: nn.PReLU(12),
    "PReLU of torch with one slope": nn.PReLU,
    "PReLU": lambda: PReLU(12),
    "shuffle": lambda: ChannelShuffle(4),
    "identity, dropout, drop-path": lambda: nn.Sequential(
        nn.Identity(), nn.Dropout(0.5), nn.Dropout2d(0.5), DropPath(0.3)
    ),
    "nothing": nn.Sequential,
    "zero": lambda: Zero(2),
    "max pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max pool with its own stride": lambda: nn.MaxPool2d((3, 2)),
    "max pool rounding up": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max pool whose last window would begin outside": lambda: nn.MaxPool2d(2, 2, 1, ceil_mode=True),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1),
    "average pool of what is inside": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average pool rounding up": lambda: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    "grouped convolution with bias": lambda: nn.Conv2d(12, 12, (3, 5), (2, 1), (1, 3), (1, 2), groups=3),
    "residual": lambda: Residual(body(12)),
    "residuals": lambda: nn.Sequential(Residual(body(12)), Residual(body(12)), nn.ReLU(), body(12, 2)),
    "pair": lambda: ShiftedPair(binary(12, 6, 1, stride=2, padding=0), binary(12, 6, 1, stride=2, padding=0)),
    "real pair": lambda: ShiftedPair(
        nn.Conv2d(12, 6, 1, 2, bias=False),
        binary(12, 6, 1, stride=2, padding=0, activation_quantizer=Identity()),
    ),
    "binary convolution": lambda: binary(12, 12, output_scale=True),
    "dilated": lambda: binary(12, 12, 5, dilation=2, padding=4, groups=4),
    "dilated with stride": lambda: binary(12, 12, dilation=2, padding=2, stride=2, groups=3),
    "one times seven": lambda: binary(12, 12, (1, 7), stride=(1, 2), padding=(0, 3)),
    "no padding": lambda: binary(12, 12, padding=0),
    "real weights and activations": lambda: binary(
        12, 12, weight_quantizer=Identity(), activation_quantizer=Identity(), output_scale=True
    ),
    "binary weights, real activations": lambda: binary(12, 12, activation_quantizer=Identity(), output_scale=True),
    "binary depthwise": lambda: binary(12, 12, groups=12),
}
ENDS: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "mean, given as a pair": lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    "spatial mean": SpatialMean,
}


@pytest.mark.parametrize("size", [(10, 12), (11, 9)], ids=str)
@pytest.mark.parametrize("middle", MIDDLES)
def test_layers(middle: str, size: tuple[int, int]) -> None:
    layers = ExactConv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), MIDDLES[middle](), SpatialMean(), nn.Linear(12, 10)
    assert_packed(stirred(nn.Sequential(*layers)), size)


@pytest.mark.parametrize("end", ENDS)
def test_ends(end: str) -> None:
    assert_packed(stirred(nn.Sequential(ExactConv2d(3, 12, 3), ENDS[end](), nn.Linear(12, 7, bias=False))), (8, 9), 7)


def test_binary_layers_behind_a_mean() -> None:
    layers = binary(96, 70, 1, padding=0), nn.PReLU(70), nn.BatchNorm2d(70), binary(70, 10, 1, padding=0), nn.Flatten()
    stem = ExactConv2d(3, 96, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(96)
    program = assert_packed(stirred(nn.Sequential(*stem, *layers)), (8, 8))
    assert [op.name for op in program.ops].count("bitconv") == 2


class Unheard(nn.Module):
    """A layer that nobody has taught the packer."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Doubled(nn.Conv2d):
    """A convolution with another meaning."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "of the user": (Unheard, "Unheard"),
    "GELU": (nn.GELU, "GELU"),
    "layer norm": (lambda: nn.LayerNorm([12, 8, 8]), "LayerNorm"),
    "transposed": (lambda: nn.ConvTranspose2d(12, 12, 3), "ConvTranspose2d"),
    "statistics": (lambda: nn.BatchNorm2d(12, track_running_stats=False), "BatchNorm2d"),
    "reflection": (lambda: nn.Conv2d(12, 12, 3, padding=1, padding_mode="reflect"), "Conv2d"),
    "padding by name": (lambda: nn.Conv2d(12, 12, 3, padding="same"), "Conv2d"),
    "mean of parts": (lambda: nn.AdaptiveAvgPool2d(2), "AdaptiveAvgPool2d"),
    "divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), "AvgPool2d"),
    "padding counted": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), "AvgPool2d"),
    "dilated pool": (lambda: nn.MaxPool2d(2, dilation=2), "MaxPool2d"),
    "part of the dimensions": (lambda: nn.Flatten(2), "Flatten"),
    "linear on a map": (lambda: nn.Linear(8, 8), "Linear"),
    "half binary": (lambda: binary(12, 12, weight_quantizer=Identity()), "1-bit activations with 32-bit weights"),
    "pair of pools": (lambda: ShiftedPair(nn.MaxPool2d(1, 2), nn.MaxPool2d(1, 2)), "ShiftedPair"),
    "changed convolution": (lambda: Doubled(12, 12, 3, padding=1), "Doubled"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_packed_is_named(name: str) -> None:
    make, said = REFUSED[name]
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), make(), SpatialMean(), nn.Linear(12, 10))
    with pytest.raises(UserError, match=said):
        packed(network, (8, 8))


def test_a_network_that_cannot_be_packed_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.GELU(), SpatialMean(), nn.Linear(12, 10)).train()
    with pytest.raises(UserError):
        packed(network, (8, 8))
    assert all(module.training for module in network.modules())


def test_a_wrong_number_of_classes_is_an_error() -> None:
    with pytest.raises(UserError, match=r"3 classes, but the last value is \(10, 1, 1\)"):
        packed(nn.Sequential(SpatialMean(), nn.Linear(3, 10)), (8, 8), classes=3)


class Shift(nn.Module):
    """A layer that is taught below."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


def test_a_new_layer_can_be_taught() -> None:
    @register
    def _(module: Shift, builder: Builder, x: int) -> int:
        return lower(nn.ReLU(), builder, x)

    assert_packed(stirred(nn.Sequential(ExactConv2d(3, 12, 3), Shift(), SpatialMean(), nn.Linear(12, 10))), (8, 8))


def test_quantizers_of_other_kinds_are_an_error() -> None:
    class TwoBits(Quantizer):
        bits = 2

        def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.round().clamp(0, 3), x.new_ones(())

        def forward(self, x: Tensor) -> Tensor:
            return self.quantize(x)[0]

    network = nn.Sequential(nn.Conv2d(3, 12, 3), binary(12, 12, activation_quantizer=TwoBits()), SpatialMean())
    with pytest.raises(UserError):
        packed(network, (8, 8), classes=12)
