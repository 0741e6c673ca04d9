"""Drawings of cells: inputs at the left, output at the right, every edge named on its arrow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from binarch.errors import UserError
from binarch.report.canvas import FONT, INK, QUIET, blank, rounded, text_width, write
from binarch.report.encode import FORMATS, encode
from binarch.report.layout import COMPACT, WIDE, Box, Layout, Wire, lay_out
from binarch.report.primitive import family_of, label_of, statistics_line, wrapped
from binarch.runs import write_atomic
from binarch.spaces.genotype import Cell, Genotype

_CONCAT: Final = "#c3cad3"
_LABEL_SIZE: Final = 8.6
_MARGIN: Final = 0.16
_SMALL: Final = 0.38  # scale of thumbnails
_HEAD: Final = 0.105  # length of an arrow head
_HEADING_SIZE: Final = 10.5
_HEADING: Final = 0.42  # room of a cell's heading
_FOOTER: Final = 0.40  # room of a cell's statistics
_BETWEEN: Final = 0.45  # between the columns of a sheet


@dataclass(frozen=True)
class Panel:
    """One cell of a sheet under its heading.

    ``space`` (the name of one, or ``None``) decides how convolutions are called, see
    :func:`~binarch.report.primitive.label_of`.
    """

    title: str
    cell: Cell
    space: str | None = None


def draw_cell(cell: Cell, title: str, space: str | None = None) -> Figure:
    """One cell under the heading ``title``, with a line of statistics below."""
    return draw_panels([[Panel(title, cell, space)]])


def draw_genotype(genotype: Genotype, space: str | None = None, title: str | None = None) -> Figure:
    """Both cells in one figure, the normal cell above the reduction cell."""
    cells = Panel("Normal cell", genotype.normal, space), Panel("Reduction cell", genotype.reduce, space)
    return draw_panels([[panel] for panel in cells], title)


def save_drawing(genotype: Genotype, path: Path, space: str | None = None, title: str | None = None) -> None:
    """Write :func:`draw_genotype` to ``path``; the suffix decides the format: .svg, .png or .pdf."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        allowed = ", ".join(f".{name}" for name in FORMATS)
        raise UserError(f"{path}: a drawing cannot be a {path.suffix or 'file without suffix'!r}; use {allowed}")
    write_atomic(path, encode(draw_genotype(genotype, space, title), form))


def draw_thumbnail(genotype: Genotype) -> Figure:
    """Both cells, one above the other, small and without words: colours tell the operations."""
    layouts = [lay_out(cell, lambda _: 0.46) for cell in (genotype.normal, genotype.reduce)]
    edge, between = 0.05, 0.45
    axes = blank(
        max(layout.width for layout in layouts) + 2 * edge,
        sum(layout.height for layout in layouts) + between + 2 * edge,
        _SMALL,
    )
    top = edge
    for layout in layouts:
        _paint(axes, layout, edge, top, None, _SMALL)
        top += layout.height + between
    return axes.figure.get_figure(root=True)


def draw_panels(rows: Sequence[Sequence[Panel]], title: str | None = None, *, compact: bool = False) -> Figure:
    """Rows of equally many cells, all at one scale, each with a line of statistics below.

    ``compact`` breaks labels into two lines and narrows the rest, so that letters are larger on a page of given width.
    """
    placed = [[(panel, _lay_out(panel, compact)) for panel in row] for row in rows]
    widths = [max(_width(panel, layout) for panel, layout in column) for column in zip(*placed, strict=True)]
    heights = [_HEADING + max(layout.height for _, layout in row) + _FOOTER for row in placed]
    head = 0.45 if title else 0.0
    across = max(sum(widths) + _BETWEEN * (len(widths) - 1), text_width(title or "", 13.0))
    axes = blank(across + 2 * _MARGIN, head + sum(heights) + _MARGIN)
    if title:
        write(axes, _MARGIN, 0.32, title, 13.0, INK, weight="bold")
    top = head
    for row, height in zip(placed, heights, strict=True):
        left = _MARGIN
        for (panel, layout), width in zip(row, widths, strict=True):
            write(axes, left, top + 0.26, panel.title, _HEADING_SIZE, INK, weight="bold")
            _paint(axes, layout, left, top + _HEADING, _namer(panel, compact), 1.0)
            write(axes, left, top + height - 0.17, statistics_line(panel.cell), _LABEL_SIZE, QUIET)
            left += width + _BETWEEN
        top += height
    return axes.figure.get_figure(root=True)


def _lay_out(panel: Panel, compact: bool) -> Layout:
    name = _namer(panel, compact)
    return lay_out(panel.cell, lambda primitive: _label_width(name(primitive)), COMPACT if compact else WIDE)


def _namer(panel: Panel, compact: bool) -> Callable[[str], str]:
    """What a label of ``panel`` says."""

    def name(primitive: str) -> str:
        text = label_of(primitive, panel.space)
        return wrapped(text) if compact else text

    return name


def _width(panel: Panel, layout: Layout) -> float:
    heading = text_width(panel.title, _HEADING_SIZE, "bold")
    return max(layout.width, heading, text_width(statistics_line(panel.cell), _LABEL_SIZE))


def _paint(axes: Axes, layout: Layout, x: float, y: float, name: Callable[[str], str] | None, scale: float) -> None:
    """Paint ``layout`` with its upper left corner at (x, y); ``name`` says what stands on labels, None: no words."""
    shift = Affine2D().translate(x, y) + axes.transData
    before = len(axes.patches)
    for wire in sorted(layout.wires, key=lambda wire: wire.primitive is not None):
        _paint_wire(axes, wire, scale)
    for wire in layout.wires:
        _paint_label(axes, wire, scale, tall=name is not None and "\n" in name(wire.primitive or ""))
    for box in layout.boxes:
        _paint_box(axes, box, _state_name(box.state, layout), scale)
    for patch in axes.patches[before:]:
        patch.set_transform(shift)
    if name is None:
        return
    for wire in layout.wires:
        if wire.primitive and wire.label:
            ink = family_of(wire.primitive).ink
            place = x + wire.label.x, y + wire.label.y
            write(axes, *place, name(wire.primitive), _LABEL_SIZE, ink, centred=True)


def _paint_wire(axes: Axes, wire: Wire, scale: float) -> None:
    family = family_of(wire.primitive) if wire.primitive else None
    colour = family.colour if family else _CONCAT
    width = (1.5 if family else 1.2) * (scale if scale == 1 else scale * 1.5)
    outline = _curve(wire)
    # The white line below parts a wire from those that it crosses.
    axes.add_artist(PathPatch(outline, fill=False, edgecolor="white", linewidth=width * 2.8, capstyle="butt"))
    style = (0, (2.4, 1.1)) if family and family.dashed else "solid"
    axes.add_artist(PathPatch(outline, fill=False, edgecolor=colour, linewidth=width, linestyle=style))
    tip = wire.stops[-1]
    wing = _HEAD * 0.42
    corners = [(tip.left, tip.y), (tip.left - _HEAD, tip.y - wing), (tip.left - _HEAD, tip.y + wing)]
    axes.add_artist(Polygon(corners, closed=True, facecolor=colour, edgecolor="none"))


def _curve(wire: Wire) -> Outline:
    """The stops of ``wire`` joined by curves that leave and arrive level; it ends inside the arrow head."""
    stops = wire.stops
    points = [(stops[0].right, stops[0].y)]
    codes = [Outline.MOVETO]
    for before, after in pairwise(stops):
        end = after.left - (_HEAD * 0.8 if after is stops[-1] else 0.0)
        middle = (before.right + end) / 2
        points += [(middle, before.y), (middle, after.y), (end, after.y)]
        codes += [Outline.CURVE4] * 3
        if after.right > after.left:
            points.append((after.right, after.y))
            codes.append(Outline.LINETO)
    return Outline(points, codes)


def _paint_label(axes: Axes, wire: Wire, scale: float, tall: bool) -> None:
    if wire.primitive is None or wire.label is None:
        return
    family, label = family_of(wire.primitive), wire.label
    axes.add_artist(
        rounded(
            label.x, label.y, label.width, label.height if tall else WIDE.label_height, WIDE.label_height / 2,
            fill=family.tint if scale == 1 else family.colour, border=family.colour, line=0.9 * scale,
        )
    )  # fmt: skip


def _paint_box(axes: Axes, box: Box, name: str, scale: float) -> None:
    terminal = name.startswith("$")
    fill, border = ("#f1f4f7", "#9aa5b1") if terminal else (INK, INK)
    axes.add_artist(rounded(box.x, box.y, box.width, box.height, 0.08, fill=fill, border=border, line=1.0 * scale))
    if scale == 1:
        glyphs = _glyphs(name, 12.0 if terminal else 10.5)
        frame = glyphs.get_extents()
        centre = Affine2D().translate(-(frame.x0 + frame.x1) / 2, -(frame.y0 + frame.y1) / 2)
        inches = centre.scale(1 / 72, -1 / 72).translate(box.x, box.y)
        colour = INK if terminal else "white"
        axes.add_artist(PathPatch(glyphs.transformed(inches), facecolor=colour, edgecolor="none"))


def _state_name(state: int, layout: Layout) -> str:
    terminals = {0: "$c_{k{-}2}$", 1: "$c_{k{-}1}$", len(layout.boxes) - 1: "$c_{k}$"}
    return terminals.get(state, str(state - 2))


@lru_cache(maxsize=64)
def _glyphs(text: str, size: float) -> Outline:
    with matplotlib.rc_context({"mathtext.fontset": "dejavusans"}):
        path = TextPath((0, 0), text, size=size, prop=FontProperties(family=FONT))
    return Outline(path.vertices, path.codes)


def _label_width(text: str) -> float:
    return text_width(text, _LABEL_SIZE) + (0.16 if "\n" in text else 0.22)
