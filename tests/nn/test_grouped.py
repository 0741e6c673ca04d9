"""Grouped convolutions as dense ones with block-diagonal filters, and the choice between the two."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from binarch.models import NetworkConfig
from binarch.nn import Binarization, GroupedProduct, QuantConv2d, tune_
from binarch.nn.grouped import block_diagonal
from binarch.search import EdgeOperations, Supernet
from binarch.spaces import find_genotype
from binarch.spaces.bats import Bats


def test_filters_see_the_channels_of_their_own_group() -> None:
    dense = block_diagonal(torch.arange(1.0, 9.0).view(4, 2, 1, 1), 2)
    assert dense.flatten(1).tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 4),
    each=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 5), (1, 7)]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_both_forms_are_one_convolution(
    groups: int, each: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs, out = groups * each[0], groups * each[1]
    padding = dilation * (kernel[0] // 2), dilation * (kernel[1] // 2)
    x = torch.randn(2, inputs, 7, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(out, each[0], *kernel, generator=generator, dtype=torch.float64)
    upstream = torch.randn_like(functional.conv2d(x, weight, None, stride, padding, dilation, groups))
    found = []
    for dense in (False, True):
        product = GroupedProduct(groups)
        product.dense = dense
        leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = product(*leaves, stride, padding, dilation)
        y.backward(upstream)
        found.append((y.detach(), *(leaf.grad for leaf in leaves)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return NetworkConfig(cells=3, channels=8, groups=4).build(find_genotype("pdarts"), 5, "both", 8).train()


def _supernet() -> nn.Module:
    torch.manual_seed(0)
    space = Bats(Binarization("activations"), 4)
    operations = EdgeOperations.full(space.rules)
    return Supernet(
        space, {"normal": operations, "reduce": operations}, channels=8, cells=3, classes=5, temperature=0.5, fast=True
    )


def _products(network: nn.Module) -> list[GroupedProduct]:
    return [m for m in network.modules() if isinstance(m, GroupedProduct) and m.groups > 1]


@pytest.mark.parametrize("made", [_network, _supernet])
def test_tuning_takes_the_quicker_form_and_changes_nothing_else(made: object, monkeypatch: pytest.MonkeyPatch) -> None:
    network = made()  # type: ignore[operator]
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(4, 3, 8, 8)
    asked = []

    def forward(twin: nn.Module) -> None:
        asked.append(twin)
        twin(x)

    # The clock is the test's: dense products of 5 x 5 filters are slow, all others are quick.
    def clock(product: GroupedProduct, call: object, x: object, weight: torch.Tensor, upstream: object) -> float:
        large = weight.shape[2] == 5
        return 2.0 if product.dense == large else 1.0

    monkeypatch.setattr("binarch.nn.grouped._once", clock)
    timings = tune_(network, forward)
    assert len(asked) == 1
    assert asked[0] is not network
    assert {(t.grouped, t.dense) for t in timings.values()} == {(1e3, 2e3), (2e3, 1e3)}
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert {product.dense for product in _products(network)} == {True, False}
    for conv in network.modules():
        if isinstance(conv, QuantConv2d) and conv.groups > 1:
            assert conv.product.dense == (conv.filter_shape[2] != 5)


def test_times_are_measured_and_each_call_once() -> None:
    network = _network()
    x = torch.randn(4, 3, 8, 8)
    timings = tune_(network, lambda twin: twin(x), repeats=1)
    assert all(timing.grouped > 0 and timing.dense > 0 for timing in timings.values())
    assert len(timings) < len(_products(network))
    for product in _products(network):
        product.dense = True
    quick, plain = copy.deepcopy(network), network
    for product in _products(plain):
        product.dense = False
    torch.testing.assert_close(quick(x), plain(x), rtol=1e-4, atol=1e-5)
