"""The published cells, spelled a second time: node by node, ``primitive(source)``, as their authors list them."""

import re
from pathlib import Path

import pytest

from binarch.spaces import PUBLISHED, Cell, Genotype, published

NAMES = {
    "max3": "max_pool_3x3",
    "avg3": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "conv7x1_1x7": "conv_7x1_1x7",
}

CELLS = {
    "darts-v1": (
        "2: sep3(1)+sep3(0); 3: skip(0)+sep3(1); 4: skip(0)+sep3(1); 5: sep3(0)+skip(2); concat 2,3,4,5",
        "2: max3(0)+max3(1); 3: skip(2)+max3(0); 4: max3(0)+skip(2); 5: skip(2)+avg3(0); concat 2,3,4,5",
    ),
    "darts-v2": (
        "2: sep3(0)+sep3(1); 3: sep3(0)+sep3(1); 4: sep3(1)+skip(0); 5: skip(0)+dil3(2); concat 2,3,4,5",
        "2: max3(0)+max3(1); 3: skip(2)+max3(1); 4: max3(0)+skip(2); 5: skip(2)+max3(1); concat 2,3,4,5",
    ),
    "pdarts": (
        "2: skip(0)+dil3(1); 3: skip(0)+sep3(1); 4: sep3(1)+sep3(3); 5: sep3(0)+dil5(4); concat 2,3,4,5",
        "2: avg3(0)+sep5(1); 3: sep3(0)+dil5(2); 4: max3(0)+dil3(1); 5: dil3(1)+dil5(3); concat 2,3,4,5",
    ),
    "pc-darts": (
        "2: sep3(1)+skip(0); 3: sep3(0)+dil3(1); 4: sep5(0)+sep3(1); 5: avg3(0)+dil3(1); concat 2,3,4,5",
        "2: sep5(1)+max3(0); 3: sep5(1)+sep5(2); 4: sep3(0)+sep3(3); 5: sep3(1)+sep3(2); concat 2,3,4,5",
    ),
    "nasnet": (
        "2: sep5(1)+sep3(0); 3: sep5(0)+sep3(0); 4: avg3(1)+skip(0); 5: avg3(0)+avg3(0); 6: sep3(1)+skip(1); "
        "concat 2,3,4,5,6",
        "2: sep5(1)+sep7(0); 3: max3(1)+sep7(0); 4: avg3(1)+sep5(0); 5: skip(3)+avg3(2); 6: sep3(2)+max3(1); "
        "concat 4,5,6",
    ),
    "amoebanet": (
        "2: avg3(0)+max3(1); 3: sep3(0)+sep5(2); 4: sep3(0)+avg3(3); 5: sep3(1)+skip(1); 6: skip(0)+avg3(1); "
        "concat 4,5,6",
        "2: avg3(0)+sep3(1); 3: max3(0)+sep7(2); 4: sep7(0)+avg3(1); 5: max3(0)+max3(1); 6: conv7x1_1x7(0)+sep3(5); "
        "concat 3,4,6",
    ),
}


def spelled(cell: Cell) -> str:
    short = {name: key for key, name in NAMES.items()}
    nodes = [
        f"{state}: " + "+".join(f"{short[edge.primitive]}({edge.source})" for edge in node)
        for state, node in enumerate(cell.nodes, start=2)
    ]
    return "; ".join([*nodes, "concat " + ",".join(map(str, cell.concat))])


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_those_of_their_papers(name: str) -> None:
    genotype = published(name)
    assert (spelled(genotype.normal), spelled(genotype.reduce)) == CELLS[name]


def test_every_published_cell_says_where_it_comes_from() -> None:
    assert list(PUBLISHED) == [*CELLS, "bats-16px"]
    for name in CELLS:
        assert re.search(r"\(.+, \w+ 20\d\d\)", PUBLISHED[name].description)


def test_our_own_cell_is_the_one_that_the_study_found() -> None:
    study = Path(__file__).parents[2] / "results/cifar10-cpu/bats"
    assert published("bats-16px") == Genotype.load(study / "genotype.json")
    assert "results/cifar10-cpu" in PUBLISHED["bats-16px"].description
