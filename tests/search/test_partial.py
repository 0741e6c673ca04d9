"""Partial channels by hand, edge weights per node, and derivation with both against brute force."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn import Binarization
from binarch.search import EdgeOperations, Mixture, Supernet, derive_cell
from binarch.search.naive import NaiveCell
from binarch.search.partial import bypass, check_width, edge_softmax, join_channels, split_channels
from binarch.spaces import Bats, Cell, CellRules, Darts, Edge

DARTS = Darts(Binarization("none"))
FULL = EdgeOperations.full(DARTS.rules)


def supernet(**settings: int) -> Supernet:
    torch.manual_seed(0)
    operations = {"normal": FULL, "reduce": FULL}
    return Supernet(DARTS, operations, **{"channels": 16, "cells": 3, "classes": 3, **settings})


def test_channels_are_split_bypassed_and_shuffled() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1).expand(1, 8, 5, 4)
    first, rest = split_channels(x, 4)
    assert first[0, :, 0, 0].tolist() == [0, 1]
    assert rest[0, :, 0, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert bypass(rest, 1) is rest
    assert bypass(rest, 2).shape == (1, 6, 3, 2)
    assert join_channels(first, rest, 4)[0, :, 0, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    picture = torch.tensor([[1.0, 2.0, 5.0], [4.0, 3.0, 0.0], [-1.0, -2.0, -3.0]])
    assert bypass(picture.view(1, 1, 3, 3), 2)[0, 0].tolist() == [[4, 5], [-1, -3]]
    whole, nothing = split_channels(x, 1)
    assert torch.equal(join_channels(whole, nothing, 1), x)


def test_a_partial_cell_is_the_written_sum() -> None:
    operations = EdgeOperations.full(CellRules(("skip_connect", "max_pool_3x3"), nodes=2))
    for reduction in (False, True):
        cell = NaiveCell(DARTS, operations, (4, 4), 4, reduction=reduction, halve_first=False, partial=2)
        s0, s1, weights = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6), torch.rand(5, 2)
        x0, x1 = cell.preprocess0(s0), cell.preprocess1(s1)

        def edge(e: int, x: Tensor, stride: int, cell: NaiveCell = cell, weights: Tensor = weights) -> Tensor:
            skip = cell.edges[e].operations[0](x[:, :2])
            pool = nn.BatchNorm2d(2, affine=False)(functional.max_pool2d(x[:, :2], 3, stride, 1))
            past = x[:, 2:] if stride == 1 else functional.max_pool2d(x[:, 2:], 2)
            mixed = weights[e, 0] * skip + weights[e, 1] * pool
            return torch.cat([mixed, (weights[e, 0] + weights[e, 1]) * past], 1)[:, [0, 2, 1, 3]]

        stride = 2 if reduction else 1
        x2 = edge(0, x0, stride) + edge(1, x1, stride)
        x3 = edge(2, x0, stride) + edge(3, x1, stride) + edge(4, x2, 1)
        torch.testing.assert_close(cell(s0, s1, weights), torch.cat([x2, x3], 1))


@given(alphas=st.lists(st.floats(-8, 8), min_size=14, max_size=14), shift=st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_edge_weights_sum_to_one_at_every_node(alphas: list[float], shift: float) -> None:
    table = torch.tensor(alphas, dtype=torch.float64)
    weights = edge_softmax(table, 4)
    for begin, end in ((0, 2), (2, 5), (5, 9), (9, 14)):
        part = table[begin:end].exp()
        torch.testing.assert_close(weights[begin:end], part / part.sum())
        torch.testing.assert_close(weights[begin:end].sum(), torch.tensor(1.0, dtype=torch.float64))
        moved = table.clone()
        moved[begin:end] += shift
        torch.testing.assert_close(edge_softmax(moved, 4), weights)


def test_the_mixture_is_the_product_and_temperature_leaves_edges_alone() -> None:
    net = supernet(partial=4, temperature=0.1)
    with torch.no_grad():
        for alphas in net.architecture_parameters():
            alphas.normal_()
    edges = net.edge_weights()
    assert edges is not None
    for weights, alphas, of_edges, mixed in zip(
        edges,
        (net.alphas_normal, net.alphas_reduce),
        (net.edge_alphas_normal, net.edge_alphas_reduce),
        net.mixture(),
        strict=True,
    ):
        torch.testing.assert_close(weights, edge_softmax(of_edges, 4))
        torch.testing.assert_close(mixed, torch.softmax(alphas / 0.1, 1) * weights[:, None])
        torch.testing.assert_close(mixed.sum(1), weights)


@torch.no_grad()
def brute_force(shares: Tensor, edges: Tensor) -> Cell:
    """Of all pairs of edges of a node the one with the largest sum of best products, ``none`` left out."""
    nodes = []
    for node in range(2, 6):
        incoming = [e for e, (_, target) in enumerate(FULL.ends) if target == node]
        best = {e: max((float(shares[e, o]) * float(edges[e]), o) for o in range(1, 8)) for e in incoming}
        pair = max(itertools.combinations(incoming, 2), key=lambda two: best[two[0]][0] + best[two[1]][0])
        first, second = (Edge(FULL.names[e][best[e][1]], FULL.ends[e][0]) for e in pair)
        nodes.append((first, second))
    return Cell(tuple(nodes), (2, 3, 4, 5))


NET = supernet(partial=2).double()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_derivation_with_edge_weights_is_the_brute_force_one(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for alphas in NET.architecture_parameters():
            alphas.copy_(torch.randn(alphas.shape, generator=generator, dtype=torch.float64))
    edges = NET.edge_weights()
    assert edges is not None
    for weights, shares, of_edges in zip(NET.mixture(), NET.shares(), edges, strict=True):
        assert derive_cell(weights, FULL) == brute_force(shares, of_edges)


def test_an_edge_with_weight_beats_one_with_a_clear_operation() -> None:
    net = supernet(partial=2)
    with torch.no_grad():
        net.alphas_normal[:, 4] = 1.0
        net.alphas_normal[2:4, 4] = 2.0  # into node 3: sources 0 and 1 are clearer
        net.edge_alphas_normal[4] = 3.0  # but source 2 counts for more
    assert [edge.source for edge in derive_cell(net.shares().normal, FULL).nodes[1]] == [0, 1]
    assert 2 in [edge.source for edge in derive_cell(net.mixture().normal, FULL).nodes[1]]


def test_one_is_off() -> None:
    off, one = supernet(), supernet(partial=1)
    assert off.edge_weights() is None
    assert len(off.architecture_parameters()) == 2
    assert list(off.state_dict()) == list(one.state_dict())
    assert not any("edge" in name or "auxiliary" in name for name in off.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(off(images), one(images))
    assert all(torch.equal(*pair) for pair in zip(off.mixture(), off.shares(), strict=True))


def test_edge_weights_are_learned_with_the_alphas() -> None:
    net = supernet(partial=2)
    names = {name for name, parameter in net.named_parameters() if any(parameter is a for a in net.weight_parameters())}
    assert not any("alphas" in name for name in names)
    assert {name for name in net.state_dict() if "alphas" in name} == {
        "alphas_normal", "alphas_reduce", "edge_alphas_normal", "edge_alphas_reduce",
    }  # fmt: skip
    net.learn("alphas")
    net(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.architecture_parameters())


def test_an_edge_without_weight_bypasses_nothing() -> None:
    net = supernet(partial=2)
    zero = torch.zeros(14, 8)
    nothing = net(torch.randn(2, 3, 8, 8), Mixture(zero, zero))
    torch.testing.assert_close(nothing, net.classifier.bias.expand(2, -1), atol=1e-6, rtol=0)


def test_widths_that_do_not_fit_are_refused() -> None:
    check_width(Bats(Binarization("both"), 12), 48, 4)
    with pytest.raises(UserError, match=r"^partial: 4 leaves 6 of 24 channels .*--partial.*groups"):
        check_width(Bats(Binarization("both"), 12), 24, 4)
    with pytest.raises(UserError, match=r"^partial: 4 leaves 3 of 12 channels"):
        check_width(DARTS, 12, 4)
    with pytest.raises(UserError, match=r"^partial: 4 does not divide 10"):
        check_width(DARTS, 10, 4)
    with pytest.raises(UserError, match=r"^channels: 7"):
        check_width(DARTS, 7, 1)
