"""Networks that do not fit what they are packed for."""

import pytest
import torch
from torch import nn

from binarch.deploy import pack_network
from binarch.errors import UserError
from binarch.nn import ExactConv2d
from binarch.runtime import Program
from binarch.spaces.parts import SpatialMean


def packed(network: nn.Module, size: int = 8) -> Program:
    card = {"classes": ["a", "b"]}
    return pack_network(network, size=(size, size), mean=(0.5,) * 3, std=(0.25,) * 3, card=card)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(ExactConv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 2)),
        nn.Sequential(nn.Conv2d(8, 4, 3), SpatialMean(), nn.Linear(4, 2)),
        nn.Sequential(nn.BatchNorm2d(5), SpatialMean(), nn.Linear(3, 2)),
        nn.Sequential(ExactConv2d(3, 12, 3), SpatialMean(), nn.Linear(24, 2)),
    ],
    ids=["flatten", "conv", "norm", "linear"],
)
def test_weights_of_another_size_are_an_error(network: nn.Module) -> None:
    with pytest.raises(UserError, match="does not fit a map of"):
        packed(network)


def test_a_diverged_network_is_an_error() -> None:
    network = nn.Sequential(ExactConv2d(3, 4, 3), nn.BatchNorm2d(4), SpatialMean(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].running_var.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        packed(network)


def test_an_endless_hard_tanh_can_be_saved() -> None:
    network = nn.Sequential(ExactConv2d(3, 4, 3), nn.Hardtanh(0, float("inf")), SpatialMean(), nn.Linear(4, 2))
    raw = packed(network).encode()
    assert Program.decode(raw, "file").encode() == raw
