"""Costs against published numbers and against loops."""

import itertools
from fractions import Fraction

import pytest
import torch
from torch import nn

from binarch.models import CellNetwork, Costs, NetworkConfig, costs
from binarch.nn import Binarization, QuantConv2d
from binarch.quantizers import CentredSign, Identity, Sign
from binarch.spaces import Bats, published


def costs_of(name: str, config: NetworkConfig, binarize: str = "both", classes: int = 10, size: int = 32) -> Costs:
    with torch.device("meta"):
        return costs(config.build(published(name), classes, binarize), size)


@pytest.mark.parametrize(
    "name, macs",
    [("darts-v1", 500_981_760), ("darts-v2", 528_353_280), ("pdarts", 532_168_704), ("nasnet", 603_445_248),
     ("amoebanet", 488_927_232)],
)  # fmt: skip
def test_darts_networks_multiply(name: str, macs: int) -> None:
    counted = costs_of(name, NetworkConfig("darts"), "none")
    assert counted.macs == counted.float_macs == macs
    assert (counted.binary_macs, counted.binary_params, counted.output_scales) == (0, 0, 0)
    assert counted.bytes_packed == 4 * counted.params


@pytest.mark.parametrize(
    "name, macs, params", [("darts-v2", 334_761_984, 2_153_566), ("pdarts", 389_173_248, 2_595_502)]
)
def test_bats_networks_count_bits_behind_a_real_stem(name: str, macs: int, params: int) -> None:
    counted = costs_of(name, NetworkConfig("bats"))
    assert (counted.macs, counted.float_macs, counted.params) == (macs, 2_985_984, params)
    assert counted.binary_macs == macs - 2_985_984


@pytest.mark.parametrize("channels, groups, macs", [(80, 20, 886_359_040), (160, 40, 2_926_766_080)])
def test_bats_networks_on_imagenet(channels: int, groups: int, macs: int) -> None:
    with torch.device("meta"):
        network = CellNetwork(
            published("pdarts"),
            Bats(Binarization(), groups),
            channels=channels,
            cells=14,
            classes=1000,
            stem="imagenet",
        )
        assert costs(network, 224).macs == macs


@pytest.mark.parametrize("output_scale", [False, True])
@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
def test_identities_between_the_numbers(binarize: str, output_scale: bool) -> None:
    config = NetworkConfig(cells=5, channels=12, output_scale=output_scale)
    network = config.build(published("nasnet"), 10, binarize)
    counted = costs(network, 16)
    assert counted.binary_macs + counted.float_macs == counted.macs
    convolutions = [m for m in network.modules() if isinstance(m, QuantConv2d)]
    bits = sum(m.weight.numel() for m in convolutions) if binarize == "both" else 0
    scales = sum(m.weight.shape[0] for m in convolutions) if output_scale else 0
    everything = sum(p.numel() for p in network.parameters())
    assert (counted.binary_params, counted.output_scales) == (bits, scales)
    assert counted.params == everything - scales
    coded = sum(-(-m.weight.numel() // 8) + 4 * len(m.weight) for m in convolutions) if binarize == "both" else 0
    assert counted.bytes_packed == coded + 4 * (everything - scales - bits)
    assert counted.to_dict()["params"] == counted.params
    assert counted.macs == costs_of("nasnet", NetworkConfig(cells=5, channels=12), "none", size=16).macs


@pytest.mark.parametrize("space, binarize", [("darts", "none"), ("bats", "both")])
def test_the_auxiliary_head_does_not_count(space: str, binarize: str) -> None:
    plain, auxiliary = (NetworkConfig(space, cells=5, channels=12, auxiliary=on) for on in (False, True))
    assert costs_of("pdarts", plain, binarize) == costs_of("pdarts", auxiliary, binarize)


def test_binary_work_is_linear_in_one_over_groups() -> None:
    macs = {g: costs_of("darts-v2", NetworkConfig(cells=5, groups=g)).binary_macs for g in (1, 2, 12, 36)}
    slope = (macs[1] - macs[36]) / (1 - Fraction(1, 36))
    assert slope > 0
    for groups, counted in macs.items():
        assert counted == macs[1] - slope * (1 - Fraction(1, groups))


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kernel, stride, padding, dilation", [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 2, 4, 2)])
def test_a_convolution_costs_what_a_loop_counts(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, size: int
) -> None:
    layer = QuantConv2d(
        3, 6, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        weight_quantizer=CentredSign(), activation_quantizer=Sign(),
    )  # fmt: skip
    starts = range(-padding, size + padding - dilation * (kernel - 1), stride)
    looped = sum(
        1 for _ in itertools.product(range(6), starts, starts, range(3 // groups), range(kernel), range(kernel))
    )
    counted = costs(layer, size)
    assert (counted.macs, counted.binary_macs, counted.float_macs) == (looped, looped, 0)
    assert counted.bytes_packed == -(-layer.weight.numel() // 8) + 4 * 6


def test_one_bit_in_one_operand_is_real_work() -> None:
    for weights, activations in ((CentredSign(), Identity()), (Identity(), Sign())):
        layer = QuantConv2d(3, 4, 3, weight_quantizer=weights, activation_quantizer=activations)
        counted = costs(layer, 6)
        bits = 0 if isinstance(weights, Identity) else 4 * 27
        assert (counted.binary_macs, counted.float_macs, counted.binary_params) == (0, 16 * 4 * 27, bits)


def test_counting_leaves_the_network_as_it_was() -> None:
    network = NetworkConfig(cells=3, channels=12, auxiliary=True).build(published("darts-v2"), 10, "both")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for training in (True, False):
        network.train(training)
        costs(network, 32)
        assert network.training is training
        assert all(m.training is training for m in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules() if isinstance(m, nn.Conv2d | QuantConv2d))
