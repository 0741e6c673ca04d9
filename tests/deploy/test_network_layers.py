"""A network layer by layer: the packed file's bytes to the last one, and the sums of ``costs``."""

import io
from dataclasses import replace
from functools import cache

import pytest
import torch
from rich.console import Console
from torch import nn

from binarch.deploy import Layers, pack_network, random_program, summarise, tell_layers
from binarch.models import MODELS, NetworkConfig, costs, find_architecture
from binarch.nn import SCHEMES, QuantLayer, binarize_
from binarch.nn.schemes import find_scheme, xnor_net

torch.set_num_threads(1)
CELLS = NetworkConfig(cells=3, channels=8, groups=2, output_scale=True)


def shape(net: str, scheme: str) -> NetworkConfig:
    return NetworkConfig(scheme=scheme, width=16 if net == "wrn40-4" else 8)


#: (architecture, settings): every network of the catalogue, every scheme, cells.
NETWORKS = {
    **{f"{net}, bats": (net, shape(net, "bats")) for net in MODELS},
    **{f"vgg-small, {name}": ("vgg-small", shape("vgg-small", name)) for name in SCHEMES},
    **{f"vgg-small-fc, {name}": ("vgg-small-fc", shape("vgg-small-fc", name)) for name in ("bc", "bnn")},
    "resnet20, lq-net": ("resnet20", shape("resnet20", "lq-net")),
    "resnet18-cbcn, cbcn": ("resnet18-cbcn", shape("resnet18-cbcn", "cbcn")),
    "cells": ("pdarts", CELLS),
    "cells with an auxiliary head": ("darts-v2", replace(CELLS, auxiliary=True)),
}
#: Bytes of the description of a network with many layers.
LARGEST_HEADER = {"cells": 4096, "cells with an auxiliary head": 4096, "nasnet-a": 8192, "amoebanet-a": 8192}


def built(name: str, size: int = 8) -> nn.Module:
    torch.manual_seed(0)
    arch, config = NETWORKS[name]
    return config.build(find_architecture(arch), 10, "both", size)


@cache
def looked_at(name: str) -> Layers:
    return summarise(built(name), 8)


def file_size(network: nn.Module, size: int = 8) -> int:
    card = {"classes": [str(number) for number in range(10)]}
    return len(pack_network(network, size=(size, size), mean=(0.5,) * 3, std=(0.25,) * 3, card=card).encode())


def printed(layers: Layers) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tell_layers(layers))
    return console.export_text()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n.startswith("amoebanet") else ()) for n in NETWORKS]
)
def test_bytes_add_up_to_the_file(name: str) -> None:
    network, layers = built(name), looked_at(name)
    assert layers.packable
    assert layers.total_bytes == layers.header_bytes + sum(row.bytes for row in layers.rows) == file_size(network)
    assert 0 < layers.header_bytes < LARGEST_HEADER.get(name.partition(",")[0], 1024)
    assert all(row.bytes >= 0 for row in layers.rows)


@pytest.mark.parametrize("net", ["vgg-small-fc", "resnet20", "pdarts"])
def test_the_file_of_random_weights_is_as_large_but_for_its_card(net: str) -> None:
    config = CELLS if net == "pdarts" else NetworkConfig(scheme="bats", width=16)
    network = config.build(find_architecture(net), 10, "both", 16)
    size = len(random_program(net, config, classes=10, image_size=16).encode())
    assert summarise(network, 16).total_bytes == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize("name", NETWORKS)
def test_work_and_weights_add_up_to_the_costs(name: str) -> None:
    network = built(name)
    rows, expected = looked_at(name).rows, costs(network, 8)
    assert sum(row.binary_macs for row in rows) == expected.binary_macs
    linear = sum(row.float_macs for row in rows if row.kind == "Linear")  # counted here, not in the literature
    assert sum(row.mixed_macs + row.float_macs for row in rows) - linear == expected.float_macs
    assert (linear > 0) == any(type(module) is nn.Linear for module in network.modules())
    coded = [row for row in rows if row.weight_bits < 32 and row.weights]
    if name.endswith("cbcn") and "cbcn" in NETWORKS[name][1].scheme:
        assert sum(row.weights for row in coded) == 4 * expected.binary_params  # rotated copies are stored too
        return
    assert sum(row.weights for row in coded if row.weight_bits == 1) == expected.binary_params
    assert sum(row.weights + row.others for row in rows) == expected.params + expected.output_scales


def test_one_row_by_hand() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 5),
    )  # fmt: skip
    binarize_(network, "hwgq")
    rows = {row.name: row for row in summarise(network, 8).rows}
    conv, stem, last = rows["3"], rows["0"], rows["7"]
    assert (conv.kind, conv.input_bits, conv.weight_bits) == ("QuantConv2d", 2, 1)
    assert (conv.weights, conv.others) == (8 * 16 * 9, 16)  # a bias
    assert (conv.binary_macs, conv.mixed_macs, conv.float_macs) == (0, 8 * 16 * 9 * 16, 0)
    assert (stem.input_bits, stem.weight_bits, stem.weights, stem.others) == (32, 32, 216, 8)
    assert (stem.binary_macs, stem.mixed_macs, stem.float_macs) == (0, 0, 216 * 64)
    assert (last.weights, last.others, last.float_macs) == (1280, 5, 1280)
    # codes, factors, biases twice (a bias is an instruction with a factor of one), thresholds of 8 channels
    numbers = 8 * 16 * 9 // 8 + 4 * (16 + 32 + 3 * 8)
    assert numbers < conv.bytes < numbers + 400
    assert "2" not in rows  # a ReLU before thresholds leaves nothing in the file
    bits = {row.name: (row.binary_macs > 0, row.mixed_macs > 0) for row in summarise(built("vgg-small, bats"), 8).rows}
    assert bits["3"] == (True, False)
    mixed = {row.name: (row.binary_macs > 0, row.mixed_macs > 0) for row in summarise(built("vgg-small, ttq"), 8).rows}
    assert mixed["3"] == (False, True)


@pytest.mark.parametrize("training", [True, False])
def test_bits_are_those_of_evaluation(training: bool) -> None:
    """Stochastic BinaryConnect evaluates, and is packed, with its real weights."""
    network = built("vgg-small, bc-stochastic").train(training)
    layers = summarise(network, 8)
    assert {row.weight_bits for row in layers.rows if row.kind == "QuantConv2d"} == {32}
    assert sum(row.mixed_macs for row in layers.rows) == 0
    assert costs(network, 8).binary_params == 0
    assert costs(network, 8).bytes_packed == pytest.approx(layers.total_bytes, rel=0.25)
    assert all(module.training == training for module in network.modules())


def test_an_unpackable_network_is_estimated_and_says_so() -> None:
    for arch, config, binarize in (
        ("vgg-small", NetworkConfig(scheme="ccnn", width=8), "activations"),
        ("pdarts", replace(CELLS, output_scale=False), "activations"),
    ):
        network = config.build(find_architecture(arch), 10, binarize, 8)  # type: ignore[arg-type]
        layers = summarise(network, 8)
        assert (layers.packable, layers.header_bytes) == (False, 0)
        assert layers.to_dict()["packable"] is False
        assert layers.total_bytes == costs(network, 8).bytes_packed
        assert "Bytes are estimated" in printed(layers)
        assert "1-bit activations with 32-bit weights cannot be packed" in layers.to_dict()["reason"]


def test_an_estimate_of_codes_counts_their_bits() -> None:
    network = NetworkConfig(width=8).build("vgg-small", 10, "none", 8)
    binarize_(network, xnor_net(input_scale=True))
    layers = summarise(network, 8)
    assert not layers.packable
    assert layers.total_bytes == costs(network, 8).bytes_packed
    assert layers.total_bytes == pytest.approx(file_size(built("vgg-small, xnor-net")), rel=0.35)


@pytest.mark.parametrize("name", ["resnet20, bats", "vgg-small-fc, bnn", "vgg-small, lq-net", "cells"])
def test_the_table_shows_every_layer_and_the_sums(name: str) -> None:
    network, layers = built(name), looked_at(name)
    text = printed(layers)
    lines = [line.split() for line in text.splitlines()]
    first = [line[0] for line in lines if line]
    assert all(row.name in first for row in layers.rows)
    quantized = [key for key, module in network.named_modules() if isinstance(module, QuantLayer)]
    assert len(quantized) >= 4
    assert set(quantized) <= set(first)
    total = next(line for line in lines if line and line[0] == "total")
    assert total[-1] == f"{layers.total_bytes:,}"
    assert f"{sum(row.binary_macs for row in layers.rows):,}" in total
    assert f"{sum(row.float_macs for row in layers.rows):,}" in total
    assert "file header and card" in text
    assert len({len(line) for line in text.rstrip("\n").splitlines()}) <= 2  # columns are aligned


def test_looking_changes_nothing() -> None:
    for name in ("vgg-small, lq-net", "cells"):
        network = built(name).train()
        frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).eval()
        state = {key: value.clone() for key, value in network.state_dict().items()}
        modes = [module.training for module in network.modules()]
        summarise(network, 8)
        assert [module.training for module in network.modules()] == modes
        assert not frozen.training
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_plain_containers_hold_every_number() -> None:
    layers = looked_at("vgg-small, cbcn")
    plain = layers.to_dict()
    assert plain["total_bytes"] == layers.total_bytes
    assert [row["name"] for row in plain["layers"]] == [row.name for row in layers.rows]
    assert find_scheme("cbcn").bits == (1, 1)


class Branches(nn.Module):
    """A network of a user: two branches, one with a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        both = torch.cat([self.left(x), nn.functional.relu(self.right(x))], 1)
        return self.last(both.mean((2, 3)))


def test_a_network_of_two_branches() -> None:
    torch.manual_seed(0)
    network = Branches()
    binarize_(network, "xnor-net")
    layers = summarise(network, 8)
    assert layers.packable
    assert layers.total_bytes == file_size(network)
    bits = {row.name: (row.input_bits, row.weight_bits) for row in layers.rows if row.weights}
    assert bits == {"stem": (32, 32), "left": (1, 1), "right": (1, 1), "last": (32, 32)}


def test_a_network_of_timm() -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", pretrained=False, num_classes=10)
    binarize_(network, "bnn", where="inner")
    layers = summarise(network, 32)
    assert sum(row.weights for row in layers.rows if row.weight_bits == 1) == sum(
        module.weight.numel() for module in network.modules() if isinstance(module, QuantLayer)
    )
    assert layers.total_bytes < 4 * sum(p.numel() for p in network.parameters()) / 20
