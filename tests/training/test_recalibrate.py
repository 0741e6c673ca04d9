"""Statistics taken anew against the mean by hand."""

import copy

import pytest
import torch
from torch import nn

from binarch.data import Augment, Batches, Images
from binarch.models import Architecture, NetworkConfig
from binarch.nn import DropPath, ShiftBatchNorm, fused
from binarch.ranks import ALONE
from binarch.spaces import published
from binarch.training.recalibrate import recalibrate


def batches() -> Batches:
    pixels = torch.randint(0, 256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Batches(Images(pixels, torch.zeros(20).long()), (0.5,) * 3, (0.2,) * 3, 8, 0, Augment(1, "random", 0))


def test_statistics_are_the_plain_mean_over_the_batches_that_would_follow() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm2d(3), DropPath(0.9), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, momentum=0.3), ShiftBatchNorm(2)
    )
    network(torch.rand(4, 3, 8, 8))
    made = batches()
    seen = [made.get(epoch, step)[0] for epoch, step in ((5, 0), (5, 1), (6, 0))]  # two steps an epoch
    recalibrate(network, network, made, 5, 3, ALONE)
    assert network.training
    assert (network[0].momentum, network[3].momentum, network[4].momentum) == (0.1, 0.3, 0.125)
    torch.testing.assert_close(network[0].running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
    torch.testing.assert_close(network[0].running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0))
    with torch.no_grad():
        normed = [
            (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt() for x in seen
        ]
        inner = [network[2](x) for x in normed]  # no path was dropped
    torch.testing.assert_close(network[3].running_mean, torch.stack([x.mean((0, 2, 3)) for x in inner]).mean(0))
    assert network[4].running_mean.abs().max() < 1e-5  # behind a norm


@pytest.mark.parametrize("count", [1, 4])
def test_it_is_the_same_whatever_the_statistics_were(count: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    recalibrate(network, network, batches(), 2, count, ALONE)
    first = network[1].running_var.clone()
    network[1].running_var.fill_(7)
    recalibrate(network, network, batches(), 2, count, ALONE)
    assert torch.equal(network[1].running_var, first)


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("reactnet-small", NetworkConfig(width=8, scheme="standardised")),
        (published("pdarts"), NetworkConfig(cells=3, channels=8, groups=2, output_scale=True)),
    ],
    ids=["blocks", "cells"],
)
def test_the_quick_passes_gather_what_the_modules_do(
    arch: Architecture, config: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = config.build(arch, 10, "both", 8)
    slow = copy.deepcopy(network)
    recalibrate(network, network, batches(), 0, 3, ALONE)
    monkeypatch.setattr(fused, "fits", lambda x: False)
    recalibrate(slow, slow, batches(), 0, 3, ALONE)
    for (name, found), truth in zip(network.named_buffers(), slow.buffers(), strict=True):
        # a sum that rounds otherwise may turn a sign of thousands
        apart = (found - truth).double().norm()
        assert apart <= 0.02 * truth.double().norm() + 1e-6, (name, float(apart))
