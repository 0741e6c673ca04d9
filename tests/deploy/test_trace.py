"""Networks of classes that nobody has taught the packer."""

import operator
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import MEAN, STD, some_images, stirred, torch_logits
from torch import Tensor, nn
from torch.nn import functional

from binarch.deploy import Builder, lower, pack_network, register
from binarch.errors import UserError
from binarch.models import MODELS, build_model
from binarch.nn import ExactConv2d, QuantConv2d
from binarch.quantizers import CentredSign, Sign
from binarch.runtime import Program, reference

torch.set_num_threads(1)


def packed(network: nn.Module, size: tuple[int, int], classes: int = 10) -> Program:
    card = {"classes": [str(k) for k in range(classes)]}
    return pack_network(network, size=size, mean=MEAN, std=STD, card=card)


def assert_packed(network: nn.Module, size: tuple[int, int], classes: int = 10) -> Program:
    """The program's logits are the network's, to one part in 10,000 of the largest."""
    program = packed(network, size, classes)
    images = some_images(3, size)
    expected = torch_logits(network, images)
    logits = reference.run(program, images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert logits.shape == expected.shape
    assert np.isfinite(expected).all()
    assert abs(logits - expected).max() <= 1e-4 * abs(expected).max()
    assert (logits.argmax(1) == expected.argmax(1)).all()
    return program


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_the_catalogue(name: str) -> None:
    network = stirred(build_model(name, classes=10, image_size=16, width=8))
    program = assert_packed(network, (16, 16))
    linear = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    assert sum(op.name == "conv" for op in program.ops) == linear


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("vgg")])
def test_odd_sizes(name: str) -> None:
    assert_packed(stirred(build_model(name, classes=10, image_size=13, width=4)), (13, 9))


class TwoBranches(nn.Module):
    """A network as a user might write it, in functions."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1, bias=False)
        self.norm, self.norm_left = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.merge = nn.Conv2d(16, 8, 3, stride=2)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        left = functional.hardtanh(self.norm_left(self.left(x)), -2, 2)
        right = functional.relu(self.norm(self.right(x)))
        right = functional.max_pool2d(right, 3, stride=1, padding=1)
        y = torch.cat([left + right, torch.add(left, right).relu()], dim=1)
        y = functional.avg_pool2d(torch.relu(self.merge(y)), 2)
        y = functional.pad(y, (0, 0, 0, 0, 1, 3))
        y = functional.dropout(y, 0.3, self.training)
        return self.fc(y.mean((2, 3)))


def test_a_network_of_two_branches() -> None:
    program = assert_packed(stirred(TwoBranches()), (11, 12))
    assert [op.name for op in program.ops].count("concat") == 2


class InPlaceBlock(nn.Module):
    """The residual block of common model collections: one ReLU in place for all, an optional downsampling."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.act(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        x += shortcut
        return self.act(x)


class Collected(nn.Module):
    """A ResNet in the manner of the model collections, with options that a plain call leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1, self.act1, self.maxpool = nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layers = nn.ModuleList([InPlaceBlock(8, 8, 1), InPlaceBlock(8, 16, 2), InPlaceBlock(16, 16, 1)])
        self.global_pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 10)
        self.drop_rate = 0.2

    def forward(self, x: Tensor, features: bool = False, mask: Tensor | None = None) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        if mask is not None:
            x = x * mask
        for layer in self.layers:
            x = layer(x)
        if features:
            return x
        x = torch.flatten(self.global_pool(x), 1)
        if self.drop_rate:
            x = functional.dropout(x, p=self.drop_rate, training=self.training)
        return self.fc(x)


def test_a_network_as_in_model_collections() -> None:
    assert_packed(stirred(Collected()), (24, 32))


class OldStyle(nn.Module):
    """Shapes asked for and computed with; every second pixel as a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.down, self.fc = nn.Conv2d(6, 12, 3, 2, 1, bias=False), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).contiguous()
        extra = x.size(1) // 2
        x = functional.relu(self.down(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra)))
        x = functional.avg_pool2d(x, x.shape[2:])
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.parametrize("size", [(8, 8), (9, 11)], ids=str)
def test_a_network_that_asks_for_shapes(size: tuple[int, int]) -> None:
    assert_packed(stirred(OldStyle()), size)


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "mean of lists": lambda x: torch.mean(x, [-1, -2]),
    "kept dimensions": lambda x: x.mean(dim=(-2, -1), keepdim=True).flatten(1),
    "pool": lambda x: functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1),
    "pool and shape": lambda x: torch.reshape(functional.adaptive_avg_pool2d(x, 1), (-1, 12)),
    "ReLU6": lambda x: functional.relu6(x).mean((2, 3)),
    "sum of a list": lambda x: sum([x, x.relu(), torch.relu(x)]).mean((2, 3)),
    "shape": lambda x: functional.max_pool2d(x, x.shape[-1]).reshape(x.shape[0], x.shape[1]),
    "dropout": lambda x: functional.dropout2d(x, training=False).mean((2, 3)),
}


class Lambda(nn.Module):
    """Any function between a stem of 12 channels and a linear layer."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.stem, self.function, self.fc = nn.Conv2d(3, 12, 3, padding=1), function, nn.Linear(12, 10)
        self.scale = nn.Parameter(torch.ones(12, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.stem(x)))


@pytest.mark.parametrize("end", ENDS)
def test_operations(end: str) -> None:
    assert_packed(stirred(Lambda(ENDS[end])), (8, 8))


class BinaryBlock(nn.Module):
    """A binary convolution between a user's functions."""

    def __init__(self) -> None:
        super().__init__()
        quantizers = {"weight_quantizer": CentredSign(), "activation_quantizer": Sign()}
        self.norm, self.conv = nn.BatchNorm2d(12), QuantConv2d(12, 12, 3, padding=1, **quantizers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(functional.hardtanh(self.norm(x)))


def test_batch_norms_disappear_in_traced_blocks_too() -> None:
    stem = ExactConv2d(3, 12, 3, padding=1)
    network = nn.Sequential(stem, BinaryBlock(), BinaryBlock(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    names = [op.name for op in assert_packed(stirred(network), (8, 7), 12).ops]
    assert names == ["image", "conv", *["quantize", "bitconv", "add"] * 2, "mean", "flatten"]


class Parallel(nn.Sequential):
    """A list of layers with another meaning."""

    def forward(self, x: Tensor) -> Tensor:
        return sum(layer(x) for layer in self)


def test_a_changed_container_is_traced() -> None:
    layers = nn.Conv2d(3, 12, 3), Parallel(nn.Identity(), nn.ReLU(), nn.Hardtanh()), nn.AdaptiveAvgPool2d(1)
    assert_packed(stirred(nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 10))), (8, 8))


class Taught(nn.Sequential):
    """A list of layers that has its own function, below: one without the layers."""


def test_a_class_that_was_taught_is_not_traced() -> None:
    @register
    def _(module: Taught, builder: Builder, x: int) -> int:
        return lower(nn.ReLU(), builder, x)

    assert [op.name for op in packed(Lambda(Taught(nn.Hardtanh())), (1, 1)).ops] == ["image", "conv", "clip", "conv"]


class Unused(nn.Module):
    """A head beside the answer, of layers that cannot be packed."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 12, 3), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        logits = self.fc(x.mean((2, 3)))
        self.confidence(x)
        return logits

    def confidence(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


def test_what_the_answer_does_not_need_is_left_out() -> None:
    assert [op.name for op in assert_packed(Unused().eval(), (6, 6)).ops] == ["image", "conv", "mean", "conv"]


STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda x, y: functional.relu(x),
    "relu in place": lambda x, y: functional.relu(x, inplace=True),
    "relu_": lambda x, y: x.relu_(),
    "hardtanh": lambda x, y: functional.hardtanh(x, -0.5, 0.5),
    "hardtanh in place": lambda x, y: functional.hardtanh(x, -0.5, 0.5, inplace=True),
    "add": lambda x, y: x + y,
    "add in place": operator.iadd,
    "add_": lambda x, y: x.add_(y),
    "sum": lambda x, y: sum([x, y]),
    "dropout": lambda x, y: functional.dropout(x, 0.5, training=False),
    "max": lambda x, y: functional.max_pool2d(x, 3, 1, 1),
    "mean": lambda x, y: functional.avg_pool2d(x, 3, 1, 1),
}


class Steps(nn.Module):
    """Steps on a growing list of maps, of which all are returned."""

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for name, first, second in self.steps:
            maps.append(STEPS[name](maps[first % len(maps)], maps[second % len(maps)]))
        return torch.cat(maps, 1).flatten(1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_any_steps_in_place_or_not(steps: list[tuple[str, int, int]]) -> None:
    """A map that changes in place changes for all who read it later, under every name it has."""
    assert_packed(Steps(steps).eval(), (4, 3), 36 * (len(steps) + 1))


class Statement(nn.Module):
    """Layers in place whose result is not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act, self.fc = nn.Conv2d(3, 12, 3), nn.ReLU(inplace=True), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        logits = x.mean((2, 3))
        self.act(x)
        logits = logits + x.mean((2, 3))
        x.add_(x)
        return self.fc(logits)


def test_changes_in_place_count_from_there_on() -> None:
    assert_packed(Statement().eval(), (6, 6))


class Inner(nn.Module):
    """A block of another class with one operation too many."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Outputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(1, 10)


class Raising(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.exp()


class Offset(Learned):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.same(x, 1)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "an operation without instruction": (Inner(), r"test_trace\.Inner: sigmoid cannot be packed; build it from layers"),
    "an operation of a part": (nn.Sequential(Lambda(Inner())), r"test_trace\.Inner: sigmoid cannot be packed"),
    "a choice by data": (
        Lambda(lambda x: x if x.mean() > 0 else -x),
        r"Lambda: cannot be packed \(symbolically traced",
    ),
    "an error": (Raising(), r"Raising: cannot be packed \(ZeroDivisionError\); build it"),
    "no forward": (nn.Module(), r"Module: cannot be packed \(.*forward"),
    "two inputs": (TwoInputs(), "TwoInputs: cannot be packed; its forward must take one map"),
    "two outputs": (Outputs(), "Outputs: cannot be packed; its forward must return one map"),
    "no input": (Constant(), "Constant: cannot be packed; its forward must take one map"),
    "a learned number": (Learned(), "Learned: exp cannot be packed"),
    "a learned summand": (Offset(), "Offset: add: only maps can be added"),
    "a layer with two arguments": (Several(), "Identity: cannot be packed here; it must be called with one map"),
    "a number": (Lambda(lambda x: x + 1), "Lambda: add: only maps can be added"),
    "a weighted sum": (Lambda(lambda x: torch.add(x, x, alpha=2)), "Lambda: add: only maps"),
    "two shapes": (
        Lambda(lambda x: x + x.mean((2, 3), keepdim=True)),
        r"Lambda: add: maps of \(12, 6, 6\) and \(12, 1, 1\) cannot be added",
    ),
    "rows": (Lambda(lambda x: torch.cat([x, x], 2)), "Lambda: cat: dim=2 cannot be packed; .* dim=1"),
    "a tensor": (Lambda(lambda x: torch.cat([x, torch.ones(1, 1, 6, 6)], 1)), "cat: an argument is no map"),
    "pixels": (Lambda(lambda x: functional.pad(x, (1, 1))), "Lambda: pad: .* pad channels with zeros"),
    "ones": (Lambda(lambda x: functional.pad(x, (0, 0, 0, 0, 1, 1), value=1.0)), "Lambda: pad: .*value=1.0"),
    "cropped": (Lambda(lambda x: functional.pad(x, (0, 0, 0, 0, -1, 1))), "Lambda: pad"),
    "the mean of everything": (Lambda(lambda x: x.mean()), r"Lambda: mean: dim=None .* \(2, 3\)"),
    "the mean of channels": (Lambda(lambda x: x.mean(1)), "Lambda: mean: dim=1"),
    "a mean in double": (
        Lambda(lambda x: x.mean((2, 3), dtype=torch.float64)),
        "Lambda: mean cannot be packed .*dtype",
    ),
    "part of the dimensions": (Lambda(lambda x: x.flatten(2)), r"Lambda: flatten: .*use nn.Flatten\(\)"),
    "the batch too": (Lambda(lambda x: x.flatten()), "Lambda: flatten"),
    "another shape": (Lambda(lambda x: x.view(x.size(0), 6, 72)), r"Lambda: view: .* use flatten\(1\)"),
    "the batch size": (Lambda(lambda x: x.view(x.size(0) * 2, -1)), "Lambda: mul cannot be packed"),
    "an attribute": (Lambda(lambda x: x.mT + x), "Lambda: getattr: mT cannot be packed"),
    "one channel": (Lambda(lambda x: x[:, 0]), r"Lambda: getitem: only x\[:, :, ::s, ::s\]"),
    "an edge": (Lambda(lambda x: x[:, :, 1:, 1:]), "Lambda: getitem"),
    "one row": (Lambda(lambda x: x[:, :, 0, :]), "Lambda: getitem"),
    "dropout always": (Lambda(lambda x: functional.dropout(x)), "Lambda: dropout: .* training=self.training"),
    "means of parts": (
        Lambda(lambda x: functional.adaptive_avg_pool2d(x, 2)),
        "Lambda: adaptive_avg_pool2d: .* size 1",
    ),
    "a fraction": (Lambda(lambda x: functional.avg_pool2d(x, 2, divisor_override=3)), "Lambda: avg_pool2d: "),
    "indices": (Lambda(lambda x: functional.max_pool2d(x, 2, return_indices=True)[1]), "Lambda: max_pool2d"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_packed_is_named(name: str) -> None:
    network, said = REFUSED[name]
    attributes = {module: set(vars(module)) for module in network.modules()}
    with pytest.raises(UserError, match=said):
        packed(network, (6, 6))
    assert all(set(vars(module)) == names for module, names in attributes.items())
