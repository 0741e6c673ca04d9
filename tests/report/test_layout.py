import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binarch.report.layout import Layout, lay_out
from binarch.report.quadratic import least_energy
from binarch.spaces.genotype import PRIMITIVES, Cell, Edge
from binarch.spaces.published import PUBLISHED


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    nodes = draw(st.integers(1, 5))
    edge = [st.builds(Edge, st.sampled_from(PRIMITIVES), st.integers(0, state - 1)) for state in range(2, nodes + 2)]
    concat = draw(st.sets(st.integers(0, nodes + 1), min_size=1))
    return Cell(tuple((draw(one), draw(one)) for one in edge), tuple(sorted(concat)))


def width_of(primitive: str) -> float:
    return 0.3 + 0.06 * len(primitive)


def check(cell: Cell, layout: Layout) -> None:
    boxes = {box.state: box for box in layout.boxes}
    assert set(boxes) == set(range(len(cell.nodes) + 3))
    assert boxes[0].y < boxes[1].y
    wanted = [(edge.source, state, edge.primitive) for state, node in enumerate(cell.nodes, 2) for edge in node]
    wanted += [(state, len(cell.nodes) + 2, None) for state in cell.concat]
    found = [(wire.source, wire.target, wire.primitive) for wire in layout.wires]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    for wire in layout.wires:
        source, target = boxes[wire.source], boxes[wire.target]
        assert source.x + source.width / 2 < target.x - target.width / 2
        assert wire.stops[0].right == pytest.approx(source.x + source.width / 2)
        assert wire.stops[-1].left == pytest.approx(target.x - target.width / 2)
        assert abs(wire.stops[0].y - source.y) < source.height / 2
        assert abs(wire.stops[-1].y - target.y) < target.height / 2
        assert all(a.right < b.left for a, b in zip(wire.stops, wire.stops[1:], strict=False))
        assert (wire.label is None) == (wire.primitive is None)


def frames(layout: Layout) -> list[tuple[float, float, float, float]]:
    things = [*layout.boxes, *(wire.label for wire in layout.wires if wire.label)]
    return [
        (t.x - t.width / 2, t.y - t.height / 2, t.x + t.width / 2, t.y + t.height / 2) for t in things if t is not None
    ]


def check_nothing_overlaps(layout: Layout) -> None:
    taken = frames(layout)
    for index, (left, top, right, bottom) in enumerate(taken):
        assert -1e-6 < left < right < layout.width + 1e-6
        assert -1e-6 < top < bottom < layout.height + 1e-6
        for other in taken[index + 1 :]:
            assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
    # Level stretches of wires keep clear of everything that is not theirs.
    for wire in layout.wires:
        for stop in wire.stops[1:-1]:
            own = wire.label is not None and stop is wire.stops[-2]
            hit = [f for f in taken if f[0] < stop.right and stop.left < f[2] and f[1] < stop.y < f[3]]
            assert len(hit) == own


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cells())
def test_any_cell_is_laid_out_without_overlap(cell: Cell) -> None:
    layout = lay_out(cell, width_of)
    check(cell, layout)
    check_nothing_overlaps(layout)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_are_laid_out_without_overlap(name: str) -> None:
    genotype = PUBLISHED[name].genotype
    for cell in (genotype.normal, genotype.reduce):
        layout = lay_out(cell, width_of)
        check(cell, layout)
        check_nothing_overlaps(layout)
        assert layout == lay_out(cell, width_of)


def test_parallel_edges_run_apart() -> None:
    cell = Cell(((Edge("skip_connect", 0), Edge("skip_connect", 0)),), (2,))
    one, other = (wire for wire in lay_out(cell, width_of).wires if wire.primitive)
    assert all(abs(a.y - b.y) > 0.1 for a, b in zip(one.stops, other.stops, strict=True))


def test_a_cell_that_can_be_drawn_without_crossings_is() -> None:
    """A chain: every node adds c_{k-1} and the node before."""
    chain = Cell(tuple((Edge("skip_connect", 1), Edge("sep_conv_3x3", state - 1)) for state in (2, 3, 4, 5)), (5,))
    wires = lay_out(chain, width_of).wires
    for index, one in enumerate(wires):
        for other in wires[index + 1 :]:
            common = [(a.y, b.y) for a in one.stops for b in other.stops if a.left == b.left]
            assert len({a < b for a, b in common if abs(a - b) > 1e-6}) <= 1


def test_least_energy_meets_distances_and_no_nearby_point_is_better() -> None:
    curvature = np.diag([1.0, 2.0, 1.0])
    slope = np.array([0.0, -2.0, -1.0])
    levels = least_energy(curvature, slope, {(0, 1): 0.5, (1, 2): 1.0})
    assert levels[1] - levels[0] >= 0.5 - 1e-5
    assert levels[2] - levels[1] == pytest.approx(1.0, abs=1e-5)
    chance = random.Random(0)

    def energy(z: np.ndarray) -> float:
        return float(z @ curvature @ z / 2 + slope @ z)

    for _ in range(200):
        near = levels + np.array([chance.gauss(0, 0.05) for _ in range(3)])
        if near[1] - near[0] >= 0.5 and near[2] - near[1] >= 1.0:
            assert energy(near) >= energy(levels) - 1e-5
