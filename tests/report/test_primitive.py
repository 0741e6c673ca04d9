from collections import Counter

import pytest

from binarch.report import cell_statistics
from binarch.report.primitive import FAMILIES, family_of, kernel_of, label_of, statistics_line, wrapped
from binarch.spaces.genotype import PRIMITIVES, Cell, Edge
from binarch.spaces.published import PUBLISHED, published


def test_statistics_of_darts_v2() -> None:
    genotype = published("darts-v2")
    assert cell_statistics(genotype.normal) == {
        "depth": 2, "conv_1x1": 0, "conv_3x3": 5, "conv_5x5": 0, "conv_7x7": 0,
        "dilated": 1, "pools": 0, "skips": 2, "parameter_free": 2,
    }  # fmt: skip
    assert cell_statistics(genotype.reduce) == {
        "depth": 2, "conv_1x1": 0, "conv_3x3": 0, "conv_5x5": 0, "conv_7x7": 0,
        "dilated": 0, "pools": 5, "skips": 3, "parameter_free": 8,
    }  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_edge_is_counted_once(name: str) -> None:
    for cell in (published(name).normal, published(name).reduce):
        counts = cell_statistics(cell)
        families = ("conv_1x1", "conv_3x3", "conv_5x5", "conv_7x7", "dilated", "pools", "skips")
        assert sum(counts[family] for family in families) == len(cell.edges)
        assert counts["parameter_free"] == counts["pools"] + counts["skips"]


def test_none_is_parameter_free_and_told() -> None:
    cell = Cell(((Edge("none", 0), Edge("skip_connect", 1)),), (2,))
    assert cell_statistics(cell)["parameter_free"] == 2
    assert [part.strip() for part in statistics_line(cell).split("·")] == ["depth 1", "1 skip", "1 none"]


@pytest.mark.parametrize(
    ("primitive", "space", "label"),
    [
        ("sep_conv_3x3", "bats", "grouped conv 3x3"),
        ("dil_conv_3x3", "bats", "dil. grouped conv 3x3"),
        ("sep_conv_5x5", "darts", "sep conv 5x5"),
        ("dil_conv_5x5", "darts", "dil. sep conv 5x5"),
        ("dil_conv_5x5", None, "dil. conv 5x5"),
        ("max_pool_3x3", "bats", "max pool 3x3"),
        ("max_pool_7x7", "nasnet", "max pool 7x7"),
        ("conv_1x1", "nasnet", "conv 1x1"),
        ("conv_1x3_3x1", "nasnet", "conv 1x3, 3x1"),
        ("dil_conv_3x3", "nasnet", "dil. conv 3x3"),
        ("sep_conv_3x3", "nasnet", "sep conv 3x3"),
        ("skip_connect", None, "skip"),
        ("<b>", None, "<b>"),
    ],
)
def test_labels_tell_what_is_built(primitive: str, space: str | None, label: str) -> None:
    assert label_of(primitive, space) == label


@pytest.mark.parametrize("space", ["bats", "darts", "nasnet", None])
def test_labels_tell_primitives_apart(space: str | None) -> None:
    assert len({label_of(primitive, space) for primitive in PRIMITIVES}) == len(PRIMITIVES)


def test_a_pair_of_convolutions_counts_as_the_square_it_spans() -> None:
    pair = (Edge("conv_1x3_3x1", 0), Edge("conv_1x1", 1)), (Edge("conv_3x3", 0), Edge("conv_7x1_1x7", 1))
    counts = cell_statistics(Cell(pair, (2, 3)))
    assert [counts[key] for key in ("conv_1x1", "conv_3x3", "conv_7x7", "parameter_free")] == [1, 2, 1, 0]
    assert "1 conv 1x1" in statistics_line(Cell(pair, (2, 3)))


def test_families_have_their_own_colours_and_all_occur() -> None:
    assert len({family.colour for family in FAMILIES}) == len(FAMILIES)
    assert Counter(family_of(primitive) for primitive in PRIMITIVES).keys() == set(FAMILIES)


def test_kernels_are_those_of_convolutions() -> None:
    found = {name: kernel_of(name) for name in PRIMITIVES}
    assert {name: kernel for name, kernel in found.items() if kernel is not None} == {
        "sep_conv_3x3": 3, "sep_conv_5x5": 5, "sep_conv_7x7": 7, "dil_conv_3x3": 3, "dil_conv_5x5": 5,
        "conv_1x1": 1, "conv_3x3": 3, "conv_1x3_3x1": 3, "conv_7x1_1x7": 7,
    }  # fmt: skip


def test_labels_are_wrapped_where_they_get_narrowest() -> None:
    assert wrapped("dil. grouped conv 5x5") == "dil. grouped\nconv 5x5"
    assert wrapped("max pool 3x3") == "max pool\n3x3"
    assert wrapped("skip") == "skip"
    assert wrapped("") == ""
