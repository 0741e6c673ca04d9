"""CI-BCNN: channels that correct each other's counts (its signs are those of test_bnn)."""

import pytest
import torch
from gradients import backward, random, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers import Edge, Interaction, rounds
from binarch.quantizers.ci_net import MOST_EDGES, correction

TEACHER, STUDENT = [250.0, -250.0, 10.0], [5.0, 5.0, 5.0]
NOTHING = torch.zeros(0)


def counts(*channels: list[float]) -> Tensor:
    """A map of one row per channel."""
    return tensor(channels).view(1, len(channels), 1, -1)


def interaction(*edges: Edge, threshold: int = 200, step: int = 100) -> Interaction:
    made = Interaction(threshold, step)
    made.set_edges(edges)
    return made


def test_a_positive_edge() -> None:
    y = interaction(Edge(0, 1, 1))(counts(TEACHER, STUDENT), NOTHING)
    assert y[0, 1, 0].tolist() == [105, -95, 5]
    assert y[0, 0, 0].tolist() == TEACHER


def test_a_negative_edge_is_antisymmetric() -> None:
    y = interaction(Edge(0, 1, -1))(counts(TEACHER, STUDENT), NOTHING)
    assert y[0, 1, 0].tolist() == [-95, 105, 5]


def test_the_threshold_itself_speaks() -> None:
    assert correction(tensor([200, 199, -199, -200, 0]), 1, 200, 100).tolist() == [100, 0, 0, -100, 0]
    assert correction(tensor([30, 29, -30]), -1, 30, 7).tolist() == [-7, 0, 7]


def test_gradient_goes_to_the_student_alone() -> None:
    g = random(1, 2, 1, 3)
    y, gradient = backward(lambda x: interaction(Edge(0, 1, 1))(x, NOTHING), counts(TEACHER, STUDENT), g)
    assert torch.equal(gradient, g)
    assert torch.equal(y, y.round())


def test_a_corrected_teacher_passes_on_what_it_became() -> None:
    """150 + 100 reaches 200, but only if the first edge comes first."""
    start = counts([300.0], [150.0], [5.0])
    first, second = Edge(0, 1, 1), Edge(1, 2, 1)
    assert interaction(first, second)(start, NOTHING).flatten().tolist() == [300, 250, 105]
    assert interaction(second, first)(start, NOTHING).flatten().tolist() == [300, 250, 5]


def test_two_teachers_of_one_student_add_up() -> None:
    edges = Edge(0, 2, 1), Edge(1, 2, 1), Edge(1, 0, -1)
    assert interaction(*edges)(counts([300.0], [200.0], [-7.0]), NOTHING).flatten().tolist() == [200, 200, 193]


edges_of_five = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([-1, 1])).filter(lambda edge: edge[0] != edge[1]),
    max_size=12,
).map(lambda found: [Edge(*edge) for edge in found])


@settings(max_examples=60, deadline=None)
@given(edges=edges_of_five, seed=st.integers(0, 10**6))
def test_rounds_are_the_edges_one_by_one(edges: list[Edge], seed: int) -> None:
    x = random(2, 5, 3, 3, seed=seed, spread=12).round()
    expected = x.clone()
    for edge in edges:
        expected[:, edge.student] += correction(expected[:, edge.teacher], edge.sign, 10, 5)
    y = interaction(*edges, threshold=10, step=5)(x, NOTHING)
    assert torch.equal(y, expected)
    assert [edge for part in rounds(edges) for edge in part] == edges
    for part in rounds(edges):
        assert all(later.teacher != earlier.student for i, earlier in enumerate(part) for later in part[i:])


def test_without_edges_nothing_happens() -> None:
    x = random(2, 3, 4, 4)
    assert torch.equal(Interaction()(x, NOTHING), x)
    assert rounds([]) == []


def test_edges_travel_with_the_state() -> None:
    edges = [Edge(3, 1, -1), Edge(0, 2, 1)]
    other = Interaction()
    other.load_state_dict(interaction(*edges).state_dict())
    assert other.edges == edges
    other.set_edges([])
    assert other.edges == []


def test_single_precision_stays_exact() -> None:
    x = random(1, 4, 5, 5, spread=300).round().float()
    y = interaction(Edge(0, 1, 1), Edge(1, 2, -1))(x, NOTHING)
    assert y.dtype == torch.float32
    assert torch.equal(y, y.round())


@pytest.mark.parametrize("edge", [(1, 1, 1), (0, 1, 0), (0, 1, 2)])
def test_an_impossible_edge_is_named(edge: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="edge: "):
        Edge(*edge)


def test_too_many_edges_are_refused_and_the_old_ones_stay() -> None:
    made = interaction(Edge(0, 1, 1))
    with pytest.raises(UserError, match=f"edges: {MOST_EDGES + 1} are too many; {MOST_EDGES}"):
        made.set_edges([Edge(0, 1, 1)] * (MOST_EDGES + 1))
    assert made.edges == [Edge(0, 1, 1)]
    made.set_edges([Edge(0, 1, 1)] * MOST_EDGES)
    assert len(made.edges) == MOST_EDGES
