"""The layered layout of a cell: where boxes, labels and wires go.

Columns run left to right: the inputs, then for every depth a column of labels and one of nodes, then the
output. A node stands in the column of its depth, the two labels of its edges right before it. A wire that
spans more than one column passes the columns between through *bends*. All bending happens in the gaps between
columns, so no wire can run through a box or a label.

1. Order: parts are swapped within their columns while that lowers the weighted number of crossings, from many
   seeded starts; c_{k-2} stays above c_{k-1} (mirroring the picture changes no crossing).
2. Height: with the orders fixed, a wire's bends and label share one height wherever the orders allow; the
   heights y minimise sum w_uv (y_u - y_v)^2 over all links, subject to distances between the neighbours of a
   column: a small convex quadratic programme.
3. Width: a column is as wide as its widest part; a gap grows with the steepest wire in it.

All lengths are inches; y grows downwards.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np

from binarch.report.quadratic import least_energy
from binarch.spaces.genotype import Cell

BOX_HEIGHT: Final = 0.40
PORT_STEP: Final = 0.15
_STARTS: Final = 24
_FINALISTS: Final = 6


@dataclass(frozen=True)
class Spacing:
    """Sizes of parts; ``gap`` is the room between two columns where all wires are level."""

    box_width: float
    terminal_width: float
    label_height: float
    gap: float


WIDE: Final = Spacing(0.40, 0.62, 0.27, 0.30)
#: For figures that are printed small: labels on two lines, steeper wires.
COMPACT: Final = Spacing(0.30, 0.50, 0.39, 0.17)


@dataclass(frozen=True)
class Box:
    """An input, node or output: ``state`` 0 and 1 are the inputs, the last state is the output."""

    state: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """The place of a primitive's label, by its centre."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Stop:
    """A level stretch of a wire, from ``left`` to ``right`` at height ``y``."""

    left: float
    right: float
    y: float


@dataclass(frozen=True)
class Wire:
    """One edge of the cell, or (without primitive and label) one state of the concatenation."""

    source: int
    target: int
    primitive: str | None
    stops: tuple[Stop, ...]
    label: Label | None


@dataclass(frozen=True)
class Layout:
    """Everything placed, within 0..width and 0..height."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]


@dataclass(frozen=True)
class _Part:
    """A box, label or bend, in its column; a label's width is not known before step 3."""

    column: int
    width: float
    height: float
    margin: float
    kind: str
    primitive: str | None = None


@dataclass
class _Graph:
    """Parts and the links between parts of adjacent columns; part ``k`` is the box of state ``k``."""

    parts: list[_Part] = field(default_factory=list)
    left: list[list[int]] = field(default_factory=list)
    right: list[list[int]] = field(default_factory=list)
    importance: list[float] = field(default_factory=list)

    def add(self, part: _Part, importance: float) -> int:
        self.parts.append(part)
        self.left.append([])
        self.right.append([])
        self.importance.append(importance)
        return len(self.parts) - 1

    def link(self, chain: Sequence[int]) -> None:
        for one, other in pairwise(chain):
            self.right[one].append(other)
            self.left[other].append(one)

    def columns(self) -> list[list[int]]:
        columns: list[list[int]] = [[] for _ in range(1 + max(part.column for part in self.parts))]
        for index, part in enumerate(self.parts):
            columns[part.column].append(index)
        return columns


@dataclass(frozen=True)
class _Arrangement:
    """Orders and heights of all parts, and the parts that each wire passes."""

    graph: _Graph
    chains: list[list[int]]
    columns: list[list[int]]
    heights: list[float]
    ports: dict[tuple[int, int], float]


def lay_out(cell: Cell, label_width: Callable[[str], float], spacing: Spacing = WIDE) -> Layout:
    """Place all parts of ``cell``; ``label_width`` gives the inches that a primitive's label takes."""
    return _place(cell, _arrange(cell, spacing), label_width, spacing.gap)


@lru_cache(maxsize=128)
def _arrange(cell: Cell, spacing: Spacing) -> _Arrangement:
    """Steps 1 and 2, which do not depend on what the labels say."""
    graph, chains = _build(cell, spacing)
    columns, heights, ports = _best_order(graph)
    return _Arrangement(graph, chains, columns, heights, ports)


def _edges(cell: Cell) -> list[tuple[int, int, str | None]]:
    """(source, target, primitive) of all edges, then of the concatenation."""
    output = len(cell.nodes) + 2
    edges: list[tuple[int, int, str | None]] = [
        (edge.source, state, edge.primitive) for state, node in enumerate(cell.nodes, 2) for edge in node
    ]
    return edges + [(state, output, None) for state in sorted(cell.concat)]


def _build(cell: Cell, spacing: Spacing) -> tuple[_Graph, list[list[int]]]:
    depth = [0, 0]
    for node in cell.nodes:
        depth.append(1 + max(depth[edge.source] for edge in node))
    column = [2 * d for d in depth] + [2 * max(depth) + 1]
    edges = _edges(cell)
    graph = _Graph()
    for state in range(len(column)):
        fan = max(sum(e[0] == state for e in edges), sum(e[1] == state for e in edges))
        width = spacing.box_width if 2 <= state < len(column) - 1 else spacing.terminal_width
        height = max(BOX_HEIGHT, PORT_STEP * (fan - 1) + 0.25)
        graph.add(_Part(column[state], width, height, 0.12, "box"), 1.0)
    chains = []
    for source, target, primitive in edges:
        chain = [source]
        for between in range(column[source] + 1, column[target]):
            if primitive is not None and between == column[target] - 1:
                part = _Part(between, 0.0, spacing.label_height, 0.06, "label", primitive)
            else:
                part = _Part(between, 0.0, 0.0, 0.08, "bend")
            chain.append(graph.add(part, 1.0 if primitive is None else 2.0))
        chain.append(target)
        graph.link(chain)
        chains.append(chain)
    return graph, chains


# 1. Order


def _best_order(graph: _Graph) -> tuple[list[list[int]], list[float], dict[tuple[int, int], float]]:
    """The orders with the fewest crossings; among those, with the straightest wires."""
    chance = random.Random(0)
    found: dict[tuple[tuple[int, ...], ...], float] = {}
    for _ in range(_STARTS):
        columns = graph.columns()
        for column in columns[1:]:
            chance.shuffle(column)
        _untangle(graph, columns)
        found.setdefault(tuple(tuple(column) for column in columns), _crossings(graph, columns))
    fewest = min(found.values())
    finalists = [order for order, crossings in found.items() if crossings == fewest][:_FINALISTS]
    best = None
    for order in finalists:
        columns = [list(column) for column in order]
        ports = _ports(graph, columns)
        heights, energy = _heights(graph, columns, ports)
        if best is None or energy < best[0] - 1e-9:
            best = (energy, columns, heights, ports)
    assert best is not None
    return best[1:]


def _untangle(graph: _Graph, columns: list[list[int]]) -> None:
    """Sort columns by the mean place of their neighbours, then swap neighbours while that helps."""
    place = _places(columns)
    for sweep in range(8):
        neighbours = graph.left if sweep % 2 == 0 else graph.right
        for column in columns[1:] if sweep % 2 == 0 else columns[-2:0:-1]:
            means = {
                part: sum(place[other] for other in neighbours[part]) / max(1, len(neighbours[part])) for part in column
            }
            column.sort(key=means.__getitem__)
            place.update((part, index) for index, part in enumerate(column))
        while sum(_swap_neighbours(graph, column, place) for column in columns[1:]):
            pass


def _swap_neighbours(graph: _Graph, column: list[int], place: dict[int, int]) -> bool:
    improved = False
    for index in range(len(column) - 1):
        upper, lower = column[index], column[index + 1]
        if _cost(graph, lower, upper, place) < _cost(graph, upper, lower, place):
            column[index], column[index + 1] = lower, upper
            place[lower], place[upper] = index, index + 1
            improved = True
    return improved


def _cost(graph: _Graph, upper: int, lower: int, place: dict[int, int]) -> float:
    """Weighted crossings between the links of two parts of one column, ``upper`` above ``lower``."""
    return sum(
        _importance(graph, upper, a) * _importance(graph, lower, b)
        for side in (graph.left, graph.right)
        for a in side[upper]
        for b in side[lower]
        if place[a] > place[b]
    )


def _importance(graph: _Graph, one: int, other: int) -> float:
    """A link between two boxes belongs to the concatenation; else the part between the boxes decides."""
    kinds = graph.parts[one].kind, graph.parts[other].kind
    if kinds == ("box", "box"):
        return 1.0
    return graph.importance[other if kinds[0] == "box" else one]


def _crossings(graph: _Graph, columns: list[list[int]]) -> float:
    place = _places(columns)
    total = 0.0
    for column in columns:
        for index, upper in enumerate(column):
            total += sum(_cost(graph, upper, lower, place) for lower in column[index + 1 :])
    return total / 2  # every gap is seen from both of its columns


def _places(columns: Sequence[Sequence[int]]) -> dict[int, int]:
    return {part: index for column in columns for index, part in enumerate(column)}


# 2. Height


def _ports(graph: _Graph, columns: Sequence[Sequence[int]]) -> dict[tuple[int, int], float]:
    """Height, relative to the part's centre, at which the wire from or to a neighbour touches a part."""
    place = _places(columns)
    ports = {}
    for part in place:
        for side in (graph.left, graph.right):
            others = sorted(side[part], key=place.__getitem__)
            for index, other in enumerate(others):
                ports[part, other] = PORT_STEP * (index - (len(others) - 1) / 2)
    return ports


def _heights(
    graph: _Graph, columns: Sequence[Sequence[int]], ports: dict[tuple[int, int], float]
) -> tuple[list[float], float]:
    """Heights that minimise the energy of the module's step 2, and that energy."""
    lane = _lanes(graph, columns)
    size = max(lane) + 1
    curvature, slope, energy = 1e-4 * np.eye(size), np.zeros(size), 0.0
    for part, neighbours in enumerate(graph.right):
        for other in neighbours:
            weight, shift = _stiffness(graph, part, other), ports[part, other] - ports[other, part]
            pull = np.zeros(size)
            pull[lane[part]] += 1.0
            pull[lane[other]] -= 1.0
            curvature += weight * np.outer(pull, pull)
            slope += weight * shift * pull
            energy += weight * shift**2 / 2
    distances: dict[tuple[int, int], float] = {}
    for above, below in _neighbours(columns):
        one, other_part = graph.parts[above], graph.parts[below]
        apart = (one.height + other_part.height) / 2 + one.margin + other_part.margin
        pair = lane[above], lane[below]
        distances[pair] = max(apart, distances.get(pair, 0.0))
    levels = least_energy(curvature, slope, distances)
    energy += float(levels @ curvature @ levels / 2 + slope @ levels)
    return [float(levels[index]) for index in lane], energy


def _lanes(graph: _Graph, columns: Sequence[Sequence[int]]) -> list[int]:
    """The lane of every part: parts of one lane share one height, so that a long wire runs straight.

    Neighbouring bends and labels of a wire join unless the order within the columns forbids it, which shows
    as a circle in the relation "above".
    """
    lane = list(range(len(graph.parts)))
    for part, neighbours in enumerate(graph.right):
        for other in neighbours:
            if "box" not in (graph.parts[part].kind, graph.parts[other].kind):
                joined = [lane[part] if own == lane[other] else own for own in lane]
                if _is_ordered({(joined[a], joined[b]) for a, b in _neighbours(columns)}):
                    lane = joined
    names = {own: index for index, own in enumerate(dict.fromkeys(lane))}
    return [names[own] for own in lane]


def _is_ordered(above: set[tuple[int, int]]) -> bool:
    """Whether the relation has no circle: lanes with nothing above them can be taken away to the last."""
    while above:
        held = {lower for _, lower in above}
        rest = {pair for pair in above if pair[0] in held}
        if rest == above:
            return False
        above = rest
    return True


def _neighbours(columns: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    for column in columns:
        yield from pairwise(column)


def _stiffness(graph: _Graph, one: int, other: int) -> float:
    """How much a link wants to be level: long wires most, then labels with their node."""
    kinds = {graph.parts[one].kind, graph.parts[other].kind}
    if "box" not in kinds:
        return 6.0
    return {"label": 3.0, "bend": 2.0}.get((kinds - {"box"} or {""}).pop(), 1.0)


# 3. Width


def _place(cell: Cell, arrangement: _Arrangement, label_width: Callable[[str], float], gap: float) -> Layout:
    graph, heights, ports = arrangement.graph, arrangement.heights, arrangement.ports
    widths = [label_width(part.primitive) if part.primitive else part.width for part in graph.parts]
    top = min(y - part.height / 2 for y, part in zip(heights, graph.parts, strict=True))
    y = [height - top for height in heights]
    left, right = _column_edges(arrangement, widths, y, gap)
    wires = []
    for (source, target, primitive), chain in zip(_edges(cell), arrangement.chains, strict=True):
        first, last = graph.parts[source], graph.parts[target]
        start, end = right[first.column], left[last.column]
        stops = [Stop(start, start, y[source] + ports[source, chain[1]])]
        stops += [Stop(left[graph.parts[p].column], right[graph.parts[p].column], y[p]) for p in chain[1:-1]]
        stops.append(Stop(end, end, y[target] + ports[target, chain[-2]]))
        label = None
        if primitive is not None:
            part = graph.parts[chain[-2]]
            label = Label((stops[-2].left + stops[-2].right) / 2, stops[-2].y, widths[chain[-2]], part.height)
        wires.append(Wire(source, target, primitive, tuple(stops), label))
    boxes = []
    for state in range(len(cell.nodes) + 3):
        part = graph.parts[state]
        middle = (left[part.column] + right[part.column]) / 2
        boxes.append(Box(state, middle, y[state], part.width, part.height))
    bottom = max(level + part.height / 2 for level, part in zip(y, graph.parts, strict=True))
    return Layout(right[-1], bottom, tuple(boxes), tuple(wires))


def _column_edges(
    arrangement: _Arrangement, widths: list[float], y: list[float], gap: float
) -> tuple[list[float], list[float]]:
    """Left and right edge of every column."""
    graph, ports = arrangement.graph, arrangement.ports
    left, right = [], []
    x = 0.0
    for column in arrangement.columns:
        left.append(x)
        x += max(widths[part] for part in column)
        right.append(x)
        climbs = [
            abs(y[part] + ports[part, other] - y[other] - ports[other, part])
            for part in column
            for other in graph.right[part]
        ]
        x += gap * min(10 / 3, 1 + max(climbs, default=0.0))
    return left, right
