"""Drawings of cells: inputs at the left, output at the right, every edge named on its arrow."""

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from binarch.errors import UserError
from binarch.report.encode import FORMATS, encode
from binarch.report.layout import Box, Layout, Wire, lay_out
from binarch.report.primitive import family_of, label_of, statistics_line
from binarch.runs import write_atomic
from binarch.spaces.genotype import Cell, Genotype

_FONT: Final = "DejaVu Sans"
_INK: Final = "#1f2933"
_QUIET: Final = "#6b7684"
_CONCAT: Final = "#c3cad3"
_LABEL_SIZE: Final = 8.6
_MARGIN: Final = 0.16
_SMALL: Final = 0.38  # scale of thumbnails
_HEAD: Final = 0.105  # length of an arrow head
_HEADING: Final = 0.42  # room of a cell's heading
_FOOTER: Final = 0.40  # room of a cell's statistics


def draw_cell(cell: Cell, title: str, space: str | None = None) -> Figure:
    """One cell under the heading ``title``, with a line of statistics below.

    ``space`` (the name of one, or ``None``) decides how convolutions are called, see
    :func:`~binarch.report.primitive.label_of`.
    """
    return _sheet([(title, cell)], space, None)


def draw_genotype(genotype: Genotype, space: str | None = None, title: str | None = None) -> Figure:
    """Both cells in one figure, the normal cell above the reduction cell."""
    return _sheet([("Normal cell", genotype.normal), ("Reduction cell", genotype.reduce)], space, title)


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
    axes = _blank(
        max(layout.width for layout in layouts) + 2 * edge,
        sum(layout.height for layout in layouts) + between + 2 * edge,
        _SMALL,
    )
    top = edge
    for layout in layouts:
        _paint(axes, layout, edge, top, None, _SMALL)
        top += layout.height + between
    return axes.figure.get_figure(root=True)


def _sheet(cells: list[tuple[str, Cell]], space: str | None, title: str | None) -> Figure:
    layouts = [lay_out(cell, lambda primitive: _label_width(label_of(primitive, space))) for _, cell in cells]
    lines = [statistics_line(cell) for _, cell in cells]
    widest = max([layout.width for layout in layouts] + [_text_width(line, _LABEL_SIZE) for line in lines])
    width = max(widest, _text_width(title or "", 13.0)) + 2 * _MARGIN
    head = 0.45 if title else 0.0
    height = head + sum(layout.height + _HEADING + _FOOTER for layout in layouts) + _MARGIN
    axes = _blank(width, height, 1.0)
    if title:
        _write(axes, _MARGIN, 0.32, title, 13.0, _INK, weight="bold")
    top = head
    for (heading, _), line, layout in zip(cells, lines, layouts, strict=True):
        _write(axes, _MARGIN, top + 0.26, heading, 10.5, _INK, weight="bold")
        _paint(axes, layout, _MARGIN, top + _HEADING, space, 1.0)
        top += _HEADING + layout.height + _FOOTER
        _write(axes, _MARGIN, top - 0.17, line, _LABEL_SIZE, _QUIET)
    return axes.figure.get_figure(root=True)


def _blank(width: float, height: float, scale: float) -> Axes:
    """Axes that fill a figure, in inches before ``scale``, y downwards."""
    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return axes


def _paint(axes: Axes, layout: Layout, x: float, y: float, space: str | None, scale: float) -> None:
    """Paint ``layout`` with its upper left corner at (x, y); below scale 1 without words."""
    shift = Affine2D().translate(x, y) + axes.transData
    before = len(axes.patches)
    for wire in sorted(layout.wires, key=lambda wire: wire.primitive is not None):
        _paint_wire(axes, wire, scale)
    for wire in layout.wires:
        _paint_label(axes, wire, scale)
    for box in layout.boxes:
        _paint_box(axes, box, _name(box.state, layout), scale)
    for patch in axes.patches[before:]:
        patch.set_transform(shift)
    if scale < 1:
        return
    for wire in layout.wires:
        if wire.primitive and wire.label:
            ink = family_of(wire.primitive).ink
            place = x + wire.label.x, y + wire.label.y
            _write(axes, *place, label_of(wire.primitive, space), _LABEL_SIZE, ink, centred=True)


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


def _paint_label(axes: Axes, wire: Wire, scale: float) -> None:
    if wire.primitive is None or wire.label is None:
        return
    family, label = family_of(wire.primitive), wire.label
    radius = label.height / 2
    axes.add_artist(
        FancyBboxPatch(
            (label.x - label.width / 2 + radius, label.y),
            label.width - 2 * radius,
            0.0,
            boxstyle=f"round,pad={radius},rounding_size={radius}",
            facecolor=family.tint if scale == 1 else family.colour,
            edgecolor=family.colour,
            linewidth=0.9 * scale,
        )
    )


def _paint_box(axes: Axes, box: Box, name: str, scale: float) -> None:
    terminal = name.startswith("$")
    rounding = 0.08
    axes.add_artist(
        FancyBboxPatch(
            (box.x - box.width / 2 + rounding, box.y - box.height / 2 + rounding),
            box.width - 2 * rounding,
            box.height - 2 * rounding,
            boxstyle=f"round,pad={rounding},rounding_size={rounding}",
            facecolor="#f1f4f7" if terminal else _INK,
            edgecolor="#9aa5b1" if terminal else _INK,
            linewidth=1.0 * scale,
        )
    )
    if scale == 1:
        glyphs = _glyphs(name, 12.0 if terminal else 10.5)
        frame = glyphs.get_extents()
        centre = Affine2D().translate(-(frame.x0 + frame.x1) / 2, -(frame.y0 + frame.y1) / 2)
        inches = centre.scale(1 / 72, -1 / 72).translate(box.x, box.y)
        colour = _INK if terminal else "white"
        axes.add_artist(PathPatch(glyphs.transformed(inches), facecolor=colour, edgecolor="none"))


def _name(state: int, layout: Layout) -> str:
    terminals = {0: "$c_{k{-}2}$", 1: "$c_{k{-}1}$", len(layout.boxes) - 1: "$c_{k}$"}
    return terminals.get(state, str(state - 2))


@lru_cache(maxsize=64)
def _glyphs(text: str, size: float) -> Outline:
    with matplotlib.rc_context({"mathtext.fontset": "dejavusans"}):
        path = TextPath((0, 0), text, size=size, prop=FontProperties(family=_FONT))
    return Outline(path.vertices, path.codes)


@lru_cache(maxsize=256)
def _text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches that a line of plain text takes."""
    if not text.strip():
        return 0.0
    font = FontProperties(family=_FONT, weight=weight)
    return float(TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=font).get_extents().x1) / 72


def _label_width(text: str) -> float:
    return _text_width(text, _LABEL_SIZE) + 0.22


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str,
    weight: str = "normal",
    centred: bool = False,
) -> None:
    axes.text(
        x, y, text, color=colour, parse_math=False,
        fontproperties=FontProperties(family=_FONT, size=size, weight=weight),
        ha="center" if centred else "left", va="center_baseline" if centred else "baseline",
    )  # fmt: skip
