"""Cell networks, packed: the logits of the torch network, for every published genotype."""

import numpy as np
import pytest
import torch
from random_networks import MEAN, STD, some_images, stirred, torch_logits
from torch import nn

from binarch.deploy import pack_network
from binarch.errors import UserError
from binarch.models import CellNetwork, NetworkConfig
from binarch.nn import Binarization, QuantConv2d
from binarch.runtime import Network, Program, reference
from binarch.runtime.ops import BitConv
from binarch.spaces import PUBLISHED, Bats, published

torch.set_num_threads(1)
CARD = {"classes": [str(k) for k in range(10)]}


def assert_packed(network: nn.Module, size: tuple[int, int]) -> Program:
    """Reference and fast kernels agree with each other exactly, and with torch to 1e-5."""
    program = pack_network(network, size=size, mean=MEAN, std=STD, card=CARD)
    program = Program.decode(program.encode(), "x")
    images = some_images(4, size)
    expected = torch_logits(network, images)
    slow = reference.run(program, images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert abs(slow - expected).max() <= 1e-5 * abs(expected).max()
    assert (slow.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_array_equal(Network(program).run(images), slow)
    return program


@pytest.mark.parametrize(
    "cells, channels, size", [(3, 12, (16, 16)), (4, 24, (17, 13)), (5, 12, (8, 9))], ids=str
)  # fmt: skip
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_genotype(name: str, cells: int, channels: int, size: tuple[int, int]) -> None:
    scheme = "standardised" if cells == 5 else "bats"
    config = NetworkConfig(cells=cells, channels=channels, groups=4, output_scale=channels == 24, scheme=scheme)
    network = stirred(config.build(published(name), 10, "both"), seed=cells)
    program = assert_packed(network, size)
    binary = sum(isinstance(module, QuantConv2d) and module.is_binary for module in network.modules())
    assert 0 < sum(isinstance(op, BitConv) for op in program.ops) <= binary


@pytest.mark.parametrize("size", [(64, 64), (49, 71)], ids=str)
def test_the_stem_for_large_images(size: tuple[int, int]) -> None:
    space = Bats(Binarization("both"), groups=4)
    network = CellNetwork(published("darts-v2"), space, channels=40, cells=3, classes=10, stem="imagenet")
    assert_packed(stirred(network), size)


@pytest.mark.parametrize("config", [NetworkConfig("bats", 3, 12, 4), NetworkConfig("darts", 3, 12, 4)], ids=str)
def test_real_networks_can_be_packed_too(config: NetworkConfig) -> None:
    assert_packed(stirred(config.build(published("pdarts"), 10, "none")), (12, 13))


def test_the_first_stage_of_training_cannot_be_packed() -> None:
    network = NetworkConfig(cells=3, channels=12, groups=4).build(published("pdarts"), 10, "activations")
    with pytest.raises(UserError, match="1-bit activations with 32-bit weights cannot be packed"):
        pack_network(network, size=(16, 16), mean=MEAN, std=STD, card=CARD)


def test_batch_norms_disappear_and_what_nothing_reads_is_left_out() -> None:
    network = stirred(NetworkConfig(cells=3, channels=12, groups=4).build(published("pdarts"), 10, "both"))
    program = pack_network(network, size=(16, 16), mean=MEAN, std=STD, card=CARD)
    read = {x for op in program.ops for x in op.inputs}
    assert read == set(range(len(program.ops) - 1))
    assert not {"affine", "clip"} & {op.name for op in program.ops}  # the stem's are thresholds too


@pytest.mark.parametrize("training", [True, False])
def test_packing_leaves_the_network_as_it_was(training: bool) -> None:
    network = stirred(NetworkConfig(cells=3, channels=12, groups=4).build(published("pdarts"), 10, "both"))
    network.train(training)
    frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pack_network(network, size=(16, 16), mean=MEAN, std=STD, card=CARD)
    assert not frozen.training
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_the_file_is_small() -> None:
    """Hardly more than one bit per binary weight and four bytes per real parameter."""
    network = NetworkConfig(cells=20, channels=36, groups=12).build(published("pdarts"), 10, "both")
    raw = len(pack_network(network, size=(32, 32), mean=MEAN, std=STD, card=CARD).encode())
    binary = sum(m.weight.numel() for m in network.modules() if isinstance(m, QuantConv2d) and m.is_binary)
    real = sum(parameter.numel() for parameter in network.parameters()) - binary
    assert binary > 2_000_000
    assert raw <= 1.15 * (binary / 8 + 4 * real)
