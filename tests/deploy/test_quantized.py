"""Quantized layers of every method, packed: the classes and logits that PyTorch gives in evaluation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from random_networks import MEAN, STD, some_images, stirred, torch_logits
from torch import nn

from binarch.deploy import pack_network, random_program
from binarch.errors import UserError
from binarch.models import MODELS, NetworkConfig
from binarch.nn import SCHEMES, ExactConv2d, QuantConv2d, QuantLinear, Scheme, binarize_, find_scheme
from binarch.nn.schemes import hwgq, lq_net, ttq, xnor_net
from binarch.quantizers import (
    BinaryConnect,
    CentredSign,
    ClosedSign,
    Edge,
    HalfWave,
    Interaction,
    LongTailedStep,
    LqActivation,
    LqWeight,
    Sign,
    TrainedScale,
    TrainedTernary,
    XnorWeight,
)
from binarch.runtime import Network, Program, reference

torch.set_num_threads(1)
CARD = {"classes": list("abcdef")}
SIZE = (10, 9)


def float_network(kernel: int = 3) -> nn.Sequential:
    """Stem, convolutions with stride, groups, dilation and bias, two linear layers; sizes that do not divide by 8."""
    pixels = 5 * 5
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, 2, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 16, 3, padding=2, dilation=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * pixels, 20), nn.BatchNorm1d(20), nn.ReLU(),
        nn.Linear(20, 12), nn.BatchNorm1d(12), nn.ReLU(),
        nn.Linear(12, 6),
    )  # fmt: skip


@torch.no_grad()
def learned(network: nn.Module, size: tuple[int, int] = SIZE, seed: int = 0) -> nn.Module:
    """``network`` in evaluation mode, its norms, bases and scales as training might leave them, of both signs.

    Norms have about the statistics of what they see: codes behind them are mixed, and every image matters.
    """
    stirred(network, seed)
    for module in network.modules():
        match module:
            case LqWeight():
                module.basis.uniform_(0.05, 0.5)
            case LqActivation():
                module.basis.uniform_(0.1, 0.9)
            case TrainedTernary():
                module.positive.normal_(0.7, 0.3)
                module.negative.normal_(0.4, 0.3)
            case TrainedScale():
                module.alpha.normal_(0.3, 0.3)
            case LongTailedStep():
                module.beta.normal_(0.8, 0.3)
            case QuantConv2d() | QuantLinear() if module.bias is not None:
                module.bias.normal_()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        norm.train().momentum = None
    torch_logits(network, some_images(16, size, seed=99))
    for norm in norms:
        norm.eval()
        norm.get_buffer("running_mean").mul_(torch.empty(norm.num_features).uniform_(0.8, 1.2))
        norm.get_buffer("running_var").mul_(torch.empty(norm.num_features).uniform_(0.5, 2))
    return network


def assert_packed(network: nn.Module, size: tuple[int, int] = SIZE, tolerance: float = 1e-6) -> Program:
    """Reference and fast kernels agree with each other exactly and with torch to ``tolerance``."""
    program = pack_network(network, size=size, mean=MEAN, std=STD, card=CARD)
    program = Program.decode(program.encode(), "x")
    images = some_images(6, size)
    expected = torch_logits(network, images).reshape(6, -1)
    slow = reference.run(program, images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert abs(slow - expected).max() <= tolerance * abs(expected).max()
    assert (slow.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_array_equal(Network(program).run(images), slow)
    assert np.ptp(expected, axis=0).max() > 0.01, "the images must matter"
    return program


#: Every scheme, and its variants.
VARIANTS: dict[str, Callable[[], Scheme]] = {
    **{name: (lambda name=name: find_scheme(name)) for name in SCHEMES},
    **{f"hwgq, {bits} bits": (lambda bits=bits: hwgq(bits)) for bits in (1, 3, 4)},
    **{f"lq-net, {bits} bits": (lambda bits=bits: lq_net(1, bits)) for bits in (1, 3, 4)},
    "ttq, no zeros": lambda: ttq(0.0),
    "ttq, mostly zeros": lambda: ttq(0.8),
    "xnor-net, published gradient": lambda: xnor_net("published"),
}


@pytest.mark.parametrize("where", ["inner", "all"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_scheme(name: str, where: Any) -> None:
    scheme = VARIANTS[name]()
    network = float_network()
    torch.manual_seed(1)
    if name == "cbcn":
        binarize_(network, scheme, where=lambda name, layer: name in ("3", "6", "9"))
    else:
        binarize_(network, scheme, where=where)
    program = assert_packed(learned(network))
    kinds = {op.name for op in program.ops}
    assert ("bitconv" in kinds) == (scheme.bits[1] < 32)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ["lq-net", "hwgq", "ttq", "ccnn", "bnn"])
def test_other_numbers(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    network = float_network(kernel=1)
    binarize_(network, VARIANTS[name]())
    assert_packed(learned(network, seed=seed + 7))


def test_bases_of_both_signs() -> None:
    network = float_network()
    binarize_(network, lq_net(1, 2))
    for module in learned(network).modules():
        if isinstance(module, LqActivation):
            module.basis.copy_(torch.tensor([-0.3, 0.8]))  # the lowest level is below zero
    assert_packed(network)


@pytest.mark.parametrize("activation", [Sign, ClosedSign, HalfWave, LongTailedStep, LqActivation])
@pytest.mark.parametrize("weight", [CentredSign, BinaryConnect, XnorWeight])
def test_layers_with_bias_scale_and_groups(weight: type, activation: type) -> None:
    torch.manual_seed(0)
    quantizers = {"weight_quantizer": weight(), "activation_quantizer": activation()}
    options: dict[str, Any] = quantizers | {"output_scale": True, "bias": True, "padding": 1, "groups": 2}
    network = nn.Sequential(
        ExactConv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8),
        QuantConv2d(8, 12, 3, **options), nn.BatchNorm2d(12), nn.Hardtanh(),
        QuantConv2d(12, 8, (1, 3), **options), nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.Flatten(),
        QuantLinear(8 * 6 * 4, 6, weight_quantizer=weight(), activation_quantizer=activation(), bias=True),
    )  # fmt: skip
    assert_packed(learned(network))


def ci_network() -> nn.Module:
    torch.manual_seed(2)
    network = float_network()
    binarize_(network, "ci-net")
    learned(network)
    return network


def edged(network: nn.Module, edges: list[Edge], threshold: int = 6, step: int = 5) -> nn.Module:
    """All convolutions with these edges; thresholds that many counts reach."""
    for module in network.modules():
        if isinstance(module, Interaction):
            module.threshold, module.step = threshold, step
            module.set_edges(edges)
    return network


@pytest.mark.parametrize(
    "edges",
    [
        [Edge(0, 1, 1)],
        [Edge(0, 1, 1), Edge(2, 1, -1), Edge(0, 3, -1)],  # one round: several teachers, several students
        [Edge(0, 1, 1), Edge(1, 2, -1), Edge(2, 0, 1), Edge(0, 1, -1)],  # a ring of four rounds, a pair twice
        [Edge(0, 1, 1), Edge(1, 0, 1)],
        [Edge(t, s, (-1) ** (t + s)) for t in range(10) for s in range(12) if t != s][:100],
    ],
    ids=["one", "one round", "ring", "to and fro", "a full table"],
)
def test_interactions(edges: list[Edge]) -> None:
    network, images = ci_network(), some_images(6, SIZE)
    before = torch_logits(network, images)
    edged(network, edges)
    assert abs(torch_logits(network, images) - before).max() > 1e-3, "the edges must matter"
    assert_packed(network)


@pytest.mark.parametrize("threshold", [1, 2, 9])
def test_counts_at_the_threshold_count(threshold: int) -> None:
    """Counts are small integers here: many of them are at +-threshold exactly."""
    assert_packed(edged(ci_network(), [Edge(3, 1, 1), Edge(1, 2, -1)], threshold, 1))


def test_random_edges_in_several_rounds() -> None:
    numbers = np.random.default_rng(0)
    for _ in range(4):
        pairs = {tuple(int(n) for n in numbers.choice(12, 2, replace=False)) for _ in range(30)}
        edged_network = edged(ci_network(), [Edge(t, s, int(numbers.choice((-1, 1)))) for t, s in sorted(pairs)])
        assert_packed(edged_network)


def test_what_cannot_be_packed_says_why() -> None:
    def refused(scheme: Scheme, match: str, prepare: Callable[[nn.Module], object] = lambda network: None) -> None:
        network = float_network()
        binarize_(network, scheme)
        prepare(network)
        with pytest.raises(UserError, match=match) as caught:
            pack_network(network, size=SIZE, mean=MEAN, std=STD, card=CARD)
        assert "\n" not in str(caught.value)

    refused(xnor_net(input_scale=True), "a layer with InputScale cannot be packed; train without it")
    refused(lq_net(2, 2), "2-bit activations with 2-bit weights cannot be packed; weights may have 1 bit, or 2 beside")
    refused(lq_net(3, 1), "1-bit activations with 3-bit weights cannot be packed")
    refused(find_scheme("bats").with_real_weights(), "1-bit activations with 32-bit weights cannot be packed")
    twice = [Edge(0, 1, 1), Edge(0, 1, 1)]
    refused(find_scheme("ci-net"), "a pair of channels with several edges", lambda network: edged(network, twice))
    per_filter = replace(find_scheme("ttq"), weight=lambda weight: LqWeight(weight, 2))
    refused(per_filter, r"weights of \d\d values in one layer cannot be packed; 4 at most", learned)


def test_packing_leaves_what_was_learned() -> None:
    for name in SCHEMES:
        network = NetworkConfig(scheme=name, width=8).build("vgg-small", 10, "both", 8).train()
        state = {key: value.clone() for key, value in network.state_dict().items()}
        pack_network(network, size=(8, 8), mean=MEAN, std=STD, card={"classes": list("0123456789")})
        assert all(module.training for module in network.modules())
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


#: Pairs of the default run: every scheme and every network at least once.
CHEAP = {
    ("bats", "resnet18"), ("bc", "vgg-small-fc"), ("bc-stochastic", "resnet20"), ("bnn", "vgg-small-fc"),
    ("bnn-shift", "resnet20"), ("xnor-net", "resnet20"), ("ttq", "resnet20"), ("hwgq", "vgg-small"),
    ("lq-net", "wrn40-1"), ("cbcn", "resnet18-cbcn"), ("cbcn", "wrn40-cbcn"), ("ccnn", "wrn40-4"),
    ("ci-net", "wrn40-2"), ("ci-net", "vgg-small"), ("bats", "amoebanet-a"), ("ccnn", "nasnet-a"),
    ("standardised", "reactnet-small"), ("standardised", "reactnet-fine"),
}  # fmt: skip
PAIRS = [
    pytest.param(scheme, net, marks=() if (scheme, net) in CHEAP else pytest.mark.slow, id=f"{scheme}-{net}")
    for scheme in SCHEMES
    for net in MODELS
    if not (scheme == "cbcn" and net in ("nasnet-a", "amoebanet-a"))  # rotates no depthwise filters
]


@pytest.mark.parametrize("scheme, net", PAIRS)
def test_every_scheme_on_every_network_of_the_catalogue(scheme: str, net: str) -> None:
    torch.manual_seed(0)
    network = NetworkConfig(scheme=scheme, width=16 if net == "wrn40-4" else 8).build(net, 6, "both", 8)
    assert_packed(learned(network, (8, 8)), (8, 8), tolerance=1e-4)


def test_filters_that_a_scheme_cannot_take_are_named() -> None:
    with pytest.raises(
        UserError, match=r"cells\.0\.operations\.1\.1: cbcn needs channels in multiples of 4, not 1 -> "
    ):
        NetworkConfig(scheme="cbcn", width=8).build("nasnet-a", 6, "both", 8)


def test_the_default_run_meets_everything() -> None:
    assert {scheme for scheme, _ in CHEAP} >= set(SCHEMES)
    assert {net for _, net in CHEAP} == set(MODELS)


@pytest.mark.parametrize("scheme", ["bats", "lq-net", "ttq"])
def test_random_programs_of_the_catalogue_mix_their_bits(scheme: str) -> None:
    config = NetworkConfig(scheme=scheme, width=8)
    program = random_program("resnet20", config, classes=4, image_size=8)
    images = some_images(5, (8, 8))
    assert len(np.unique(Network(program).run(images), axis=0)) == 5
    again = random_program("resnet20", config, classes=4, image_size=8)
    assert program.encode() == again.encode()
    assert random_program("resnet20", config, classes=4, image_size=8, seed=1).encode() != again.encode()
