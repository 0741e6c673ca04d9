"""Diagrams of one operation's layers, from top to bottom, as papers draw their blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon

from binarch.report.canvas import INK, QUIET, blank, rounded, text_width, write

Kind = Literal["norm", "one-bit", "conv", "activation", "shuffle", "sum", "other"]

# Border, ground and ink; hues as in drawings of cells.
_COLOURS: Final[dict[Kind, tuple[str, str, str]]] = {
    "norm": ("#7b8794", "#eef1f4", "#3b4754"),
    "one-bit": ("#c99700", "#fdf4d8", "#6b5000"),
    "conv": ("#2f7fbf", "#e3f0fa", "#0f4672"),
    "activation": ("#0f9b78", "#dff4ed", "#07553f"),
    "shuffle": ("#a8518f", "#f7e6f2", "#6b2557"),
    "other": ("#b4bcc6", "#f8f9fa", "#3b4754"),
}
_TITLE: Final = 9.0
_DETAIL: Final = 7.8
_HEADING: Final = 10.5
_MARGIN: Final = 0.16
_LINE: Final = 0.185  # height of a line of text in a box
_GAP: Final = 0.23  # between boxes
_HEAD: Final = 0.08  # length of an arrow head
_RADIUS: Final = 0.12  # of the circle of a sum
_LANE: Final = 0.18  # between the boxes and a shortcut, and between shortcuts
_TOP: Final = 0.72  # room of headings
_BETWEEN: Final = 0.30  # between diagrams


@dataclass(frozen=True)
class Step:
    """One layer: what its box says, and which values it takes: 0 is the input, i what the i-th step made."""

    kind: Kind
    name: str
    kernel: str = ""
    details: tuple[str, ...] = ()
    inputs: tuple[int, ...] = (0,)

    @property
    def title(self) -> str:
        """The first line of the box."""
        return f"{self.name} {self.kernel}".rstrip()


@dataclass(frozen=True)
class Diagram:
    """Steps in the order of computation; the last one makes the output."""

    steps: tuple[Step, ...]

    @property
    def shortcuts(self) -> tuple[tuple[int, int], ...]:
        """Values that a step takes from before its predecessor, as (value, step); steps count from 1."""
        found = []
        for index, step in enumerate(self.steps, 1):
            others = list(step.inputs)
            if index - 1 in others:
                others.remove(index - 1)
            found += [(value, index) for value in others]
        return tuple(sorted(found, key=lambda pair: pair[1] - pair[0]))


@dataclass(frozen=True)
class Caption:
    """Two lines above a diagram."""

    title: str
    note: str


@dataclass
class _Pen:
    """Paints one diagram around the vertical line at ``x``, from ``y`` down."""

    axes: Axes
    x: float
    y: float
    width: float
    levels: list[float] = field(default_factory=list)
    """Height at which a shortcut leaves each value."""
    centres: list[float] = field(default_factory=list)

    def value(self, connected: bool) -> None:
        """The arrow between two boxes."""
        end = self.y + _GAP
        if connected:
            self._line([(self.x, self.y), (self.x, end - _HEAD / 2)])
            self._head((self.x, end), (0.0, 1.0))
        self.levels.append(self.y + _GAP * 0.35)
        self.y = end

    def step(self, step: Step) -> None:
        """A box, or the circle of a sum."""
        height = _height(step)
        centre = self.y + height / 2
        self.centres.append(centre)
        if step.kind == "sum":
            self._sum(centre)
        else:
            border, ground, ink = _COLOURS[step.kind]
            box = rounded(self.x, centre, self.width, height, 0.05, fill=ground, border=border, line=0.9)
            self.axes.add_artist(box)
            line = centre - _LINE * len(step.details) / 2
            write(self.axes, self.x, line, step.title, _TITLE, ink, centred=True)
            for number, detail in enumerate(step.details, 1):
                write(self.axes, self.x, line + number * _LINE, detail, _DETAIL, ink, centred=True)
        self.y += height

    def shortcut(self, value: int, step: Step, index: int, lane: int) -> None:
        """A line beside the boxes from ``value`` into ``step``."""
        side, level, centre = self.x + self.width / 2 + _LANE * lane, self.levels[value], self.centres[index - 1]
        end = self.x + (_RADIUS if step.kind == "sum" else self.width / 2)
        self._line([(self.x, level), (side, level), (side, centre), (end + _HEAD / 2, centre)])
        self._head((end, centre), (-1.0, 0.0))

    def _sum(self, centre: float) -> None:
        self.axes.add_artist(Circle((self.x, centre), _RADIUS, facecolor="white", edgecolor=INK, linewidth=1.1))
        arm = _RADIUS * 0.6
        self._line([(self.x - arm, centre), (self.x + arm, centre)])
        self._line([(self.x, centre - arm), (self.x, centre + arm)])

    def _line(self, points: Sequence[tuple[float, float]]) -> None:
        self.axes.add_artist(Line2D(*zip(*points, strict=True), color=INK, linewidth=1.1))

    def _head(self, tip: tuple[float, float], towards: tuple[float, float]) -> None:
        (x, y), (dx, dy) = tip, towards
        back, wing = (x - _HEAD * dx, y - _HEAD * dy), _HEAD * 0.45
        corners = [tip, (back[0] - wing * dy, back[1] + wing * dx), (back[0] + wing * dy, back[1] - wing * dx)]
        self.axes.add_artist(Polygon(corners, closed=True, facecolor=INK, edgecolor="none"))


def draw_diagrams(panels: Sequence[tuple[Caption, Diagram]]) -> Figure:
    """Diagrams side by side at one scale, their inputs at one height."""
    width = max(_box_width(step) for _, diagram in panels for step in diagram.steps)
    lefts, across = [], _MARGIN
    for caption, diagram in panels:
        lefts.append(across)
        boxes = width + _LANE * (len(diagram.shortcuts) + 0.2)
        texts = max(text_width(caption.title, _HEADING, "bold"), text_width(caption.note, _DETAIL))
        across += max(boxes, texts) + _BETWEEN
    height = max(sum(_height(step) + _GAP for step in diagram.steps) for _, diagram in panels)
    axes = blank(across - _BETWEEN + _MARGIN, _TOP + height + _GAP + _MARGIN)
    for left, (caption, diagram) in zip(lefts, panels, strict=True):
        write(axes, left, 0.30, caption.title, _HEADING, INK, weight="bold")
        write(axes, left, 0.50, caption.note, _DETAIL, QUIET)
        _paint(_Pen(axes, left + width / 2, _TOP, width), diagram)
    return axes.figure.get_figure(root=True)


def _paint(pen: _Pen, diagram: Diagram) -> None:
    for index, step in enumerate(diagram.steps, 1):
        pen.value(index - 1 in step.inputs)
        pen.step(step)
    pen.value(True)
    for lane, (value, index) in enumerate(diagram.shortcuts, 1):
        pen.shortcut(value, diagram.steps[index - 1], index, lane)


def _height(step: Step) -> float:
    return 2 * _RADIUS if step.kind == "sum" else _LINE * (1 + len(step.details)) + 0.12


def _box_width(step: Step) -> float:
    widths = [text_width(step.title, _TITLE), *(text_width(detail, _DETAIL) for detail in step.details)]
    return max(widths) + 0.26
