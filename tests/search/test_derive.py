"""Discretization against brute force."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from binarch.search import EdgeOperations, derive_cell, random_genotype, shrink
from binarch.search.derive import entropy, one_hot, parameter_free
from binarch.spaces import Cell, CellRules, Edge, Genotype, Nasnet, Space
from binarch.spaces.genotype import PRIMITIVES

FULL = EdgeOperations.full(Space.rules)


def table(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(14, 8, generator=generator), 1)


def brute_force(weights: torch.Tensor) -> Cell:
    """Try every pair of edges of every node; an edge is worth its best candidate that is not ``none``."""
    nodes = []
    for node in range(2, 6):
        incoming = [e for e, (_, target) in enumerate(FULL.ends) if target == node]
        pair = max(
            itertools.combinations(incoming, 2),
            key=lambda edges: sorted((float(weights[e, 1:].max()) for e in edges), reverse=True),
        )
        best = [FULL.names[e][1 + int(weights[e, 1:].argmax())] for e in pair]
        nodes.append(tuple(Edge(name, FULL.ends[e][0]) for name, e in zip(best, pair, strict=True)))
    return Cell(tuple(nodes), (2, 3, 4, 5))


def test_derivation_is_the_brute_force_one_on_a_thousand_draws() -> None:
    for seed in range(1000):
        weights = table(seed)
        cell = derive_cell(weights, FULL)
        assert cell == brute_force(weights)
        assert cell.count("none") == 0


@given(seed=st.integers(0, 10**6), edge=st.integers(0, 13), shift=st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_a_constant_added_to_one_edge_changes_nothing(seed: int, edge: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    alphas = 3 * torch.randn(14, 8, generator=generator, dtype=torch.float64)
    moved = alphas.clone()
    moved[edge] += shift
    assert derive_cell(torch.softmax(alphas, 1), FULL) == derive_cell(torch.softmax(moved, 1), FULL)


@given(seed=st.integers(0, 10**6), limit=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_skip_limit_holds_and_changes_nothing_where_it_is_not_needed(seed: int, limit: int) -> None:
    weights = table(seed)
    weights[:, 3] += torch.rand(14, generator=torch.Generator().manual_seed(seed)) * 0.8
    free = derive_cell(weights, FULL)
    capped = derive_cell(weights, FULL, limit)
    assert capped.count("skip") <= limit
    if free.count("skip") <= limit:
        assert capped == free


def test_skip_limit_drops_the_weakest_kept_skip_first() -> None:
    weights = torch.full((14, 8), 0.01)
    weights[:, 4] = 0.05
    for edge, weight in ((0, 0.9), (1, 0.8), (2, 0.3)):
        weights[edge, 3] = weight
    capped = derive_cell(weights, FULL, 2)
    assert [edge.primitive for edge in capped.edges[:4]] == ["skip_connect"] * 2 + ["sep_conv_3x3"] * 2


def test_shrinking_by_hand() -> None:
    edges = EdgeOperations(1, (("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),) * 2)
    weights = torch.tensor([[0.4, 0.1, 0.2, 0.3], [0.1, 0.4, 0.3, 0.2]])
    once = shrink(weights, edges, 3)
    assert once.names == (("none", "skip_connect", "sep_conv_3x3"), ("max_pool_3x3", "skip_connect", "sep_conv_3x3"))
    twice = shrink(torch.tensor([[0.5, 0.2, 0.3], [0.2, 0.2, 0.6]]), once, 2)
    assert twice.names == (("none", "sep_conv_3x3"), ("max_pool_3x3", "sep_conv_3x3"))


def test_one_hot_marks_exactly_the_derived_edges() -> None:
    weights = table(3)
    marks = one_hot(derive_cell(weights, FULL), FULL, weights)
    assert marks.sum() == 8
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    assert derive_cell(marks, FULL) == derive_cell(weights, FULL)


def test_gauges() -> None:
    assert entropy(torch.full((14, 8), 1 / 8)) == pytest.approx(math.log(8))
    assert entropy(torch.eye(8)) == 0
    node = (Edge("skip_connect", 0), Edge("sep_conv_3x3", 1))
    assert parameter_free(Cell((node, node), (2, 3))) == 0.5


def test_random_cells_are_valid_varied_and_seeded() -> None:
    def draw(seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        return [random_genotype(Space.rules, generator) for _ in range(200)]

    cells = draw(0)
    assert cells == draw(0)
    assert len(set(cells)) == 200
    edges = [edge for genotype in cells for cell in (genotype.normal, genotype.reduce) for edge in cell.edges]
    assert {edge.primitive for edge in edges} == set(Space.rules.candidates) - {"none"} <= set(PRIMITIVES)
    for genotype in cells:
        assert all(first.source < second.source for first, second in genotype.normal.nodes)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_random_cells_of_nasnet_keep_its_rules(seed: int) -> None:
    genotype = random_genotype(Nasnet.rules, torch.Generator().manual_seed(seed))
    assert Genotype.from_dict(genotype.to_dict()) == genotype
    for cell in (genotype.normal, genotype.reduce):
        assert len(cell.nodes) == 5
        assert {edge.primitive for edge in cell.edges} <= set(Nasnet.primitives)
        assert set(cell.concat) == set(range(2, 7)) - {edge.source for edge in cell.edges}


def test_random_cells_of_nasnet_read_states_twice_and_have_all_operations() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = [random_genotype(Nasnet.rules, generator).normal for _ in range(300)]
    assert {edge.primitive for cell in cells for edge in cell.edges} == set(Nasnet.primitives)
    twice = sum(first.source == second.source for cell in cells for first, second in cell.nodes[:1])
    assert twice / 300 == pytest.approx(1 / 2, abs=0.1)


def test_gradient_strategies_derive_and_shrink_without_none() -> None:
    full = EdgeOperations.full(Nasnet.rules)
    assert (len(full.ends), full.width) == (20, 13)
    weights = torch.softmax(torch.randn(20, 13, generator=torch.Generator().manual_seed(0)), 1)
    fewer = shrink(weights, full, 5)
    assert all(set(names) < set(Nasnet.rules.candidates) for names in fewer.names)
    for operations, table in ((full, weights), (fewer, torch.full((20, 5), 0.2))):
        cell = derive_cell(table, operations, 2)
        assert cell.concat == (2, 3, 4, 5, 6)
        assert all(first.source < second.source for first, second in cell.nodes)
        assert one_hot(cell, operations, table).sum() == 10


def test_skip_limit_ends_where_nothing_else_stands_on_an_edge() -> None:
    edges = EdgeOperations.full(CellRules(("none", "skip_connect")))
    cell = derive_cell(torch.full((14, 2), 0.5), edges, 0)
    assert cell.count("skip") == 8
