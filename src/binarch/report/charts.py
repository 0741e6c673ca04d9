"""Charts of a run: curves over the epochs and maps of the architecture weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from binarch.report.primitive import label_of
from binarch.report.story import Row, items, number
from binarch.spaces.genotype import PRIMITIVES

BLUE: Final = "#2f7fbf"
ORANGE: Final = "#d55e00"
_WIDTH: Final = 4.9
_INK: Final = "#1f2933"
_QUIET: Final = "#6b7684"
_ROW: Final = 0.25  # height of a heat map's row
_GRID: Final = "#e6eaee"
_BAND: Final = "#f4f6f9"
_HEAT: Final = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#d3e6f5", "#6aa9d8", "#2f7fbf", "#0f4672"])


@dataclass(frozen=True)
class Series:
    """One named quantity of the epochs."""

    key: str
    name: str
    colour: str


@dataclass(frozen=True)
class Curve:
    """What a chart shows; ``reference`` is the key of a quantity drawn as a level line, e.g. a maximum."""

    title: str
    series: tuple[Series, ...]
    percent: bool = False
    zero: bool = False
    reference: Series | None = None


_TRAIN, _VALIDATION = ("train", BLUE), ("validation", ORANGE)
LOSS: Final = Curve(
    "Loss", (Series("train_loss", *_TRAIN), Series("validation_loss", *_VALIDATION))
)  # fmt: skip
ACCURACY: Final = Curve(
    "Accuracy", (Series("train_accuracy", *_TRAIN), Series("validation_accuracy", *_VALIDATION)), percent=True
)
LEARNING_RATE: Final = Curve("Learning rate", (Series("lr", "learning rate", _INK),), zero=True)
FLIPS: Final = Curve(
    "Coded weights that changed during the epoch", (Series("flip_ratio", "flip ratio", BLUE),), percent=True, zero=True
)
SATURATED: Final = Curve(
    "Activations that pass no gradient", (Series("saturated", "saturated", ORANGE),), percent=True, zero=True
)
EDGES: Final = Curve("Interactions between channels", (Series("edges", "edges", _INK),), zero=True)
ENTROPY: Final = Curve(
    "Entropy of the architecture weights (nats, mean over edges)",
    (Series("entropy_normal", "normal", BLUE), Series("entropy_reduce", "reduction", ORANGE)),
    zero=True,
    reference=Series("entropy_max", "undecided (maximum)", _QUIET),
)
COLLAPSE: Final = Curve(
    "Parameter-free operations in the derived cells",
    (Series("parameter_free_normal", "normal", BLUE), Series("parameter_free_reduce", "reduction", ORANGE)),
    percent=True,
    zero=True,
)


def curve_chart(curve: Curve, runs: Sequence[Sequence[Row]], wide: bool = False) -> Figure | None:
    """Draw ``curve`` for all ``runs`` (seeds share colours); ``None`` where no run recorded any of it."""
    lines = [
        (series, points)
        for run in runs
        for series in curve.series
        if (points := _points(run, series.key))
    ]  # fmt: skip
    if not lines:
        return None
    width, height = (2 * _WIDTH + 0.25, 2.2) if wide else (_WIDTH, 2.75)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (0.58 / width, 0.40 / height, 1 - 0.68 / width, 1 - (1.08 if len(curve.series) > 1 else 0.9) / height)
    )
    for series, points in lines:
        few = len(points) < 3
        axes.plot(
            *zip(*points, strict=True), color=series.colour, linewidth=1.6, zorder=3, clip_on=False,
            alpha=1.0 if len(runs) == 1 else 0.6, marker="o" if few else "", markersize=4,
        )  # fmt: skip
    _frame(axes, curve, max(points[-1][0] for _, points in lines))
    shown = [series for series in curve.series if any(series is line[0] for line in lines)]
    if curve.reference:
        levels = [point for run in runs for point in _points(run, curve.reference.key)]
        if levels:
            axes.plot(
                *zip(*sorted(levels), strict=True),
                color=_QUIET,
                linewidth=1.1,
                linestyle=(0, (4, 3)),
                zorder=2,
            )
            axes.set_ylim(0, max(axes.get_ylim()[1], 1.08 * max(level for _, level in levels)))
            shown.append(curve.reference)
    _stages(axes, runs[0])
    _headline(axes, curve.title, shown if len(shown) > 1 else [])
    return figure


def _epochs(run: Sequence[Row]) -> list[int]:
    """Epochs counted from 1; where a record starts anew per stage, simply the number of the row."""
    given = [row.get("epoch") for row in run]
    if all(isinstance(epoch, int) for epoch in given) and all(a < b for a, b in pairwise(given)):  # type: ignore[operator]
        return [epoch + 1 for epoch in given if isinstance(epoch, int)]
    return list(range(1, len(run) + 1))


def _points(run: Sequence[Row], key: str) -> list[tuple[int, float]]:
    found = [(epoch, number(row.get(key))) for epoch, row in zip(_epochs(run), run, strict=True)]
    return [(epoch, value) for epoch, value in found if value is not None]


def _frame(axes: Axes, curve: Curve, last: int) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b8c0ca")
    axes.set_facecolor("none")
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=_QUIET, pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(0.5 if last < 3 else 1, last + (0.5 if last < 3 else 0))
    axes.margins(y=0.08)
    axes.set_xlabel("epoch", fontsize=8, color=_QUIET, labelpad=2, loc="right")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if curve.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low), min(1.02, high) if high > 0.02 else 1.0)
    if curve.zero:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1e-9))
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label]:
        text.set_fontfamily("DejaVu Sans")


def _stages(axes: Axes, run: Sequence[Row]) -> None:
    """Shade every second stage and name all of them; a single stage goes without saying."""
    starts: list[tuple[int, str]] = []
    for epoch, row in zip(_epochs(run), run, strict=True):
        name = str(row.get("stage_name", row.get("stage", "")))
        if not starts or starts[-1][1] != name:
            starts.append((epoch, name))
    if len(starts) < 2:
        return
    low, high = axes.get_xlim()
    edges = [low, *(start - 0.5 for start, _ in starts[1:]), high]
    for index, ((left, right), (_, name)) in enumerate(zip(pairwise(edges), starts, strict=True)):
        if index % 2:
            axes.axvspan(left, right, color=_BAND, linewidth=0, zorder=0)
        if index:
            axes.axvline(left, color="#c3cad3", linewidth=0.9, zorder=1)
        inches = axes.bbox.width / axes.figure.get_dpi()
        room = int(13 * inches * (right - left) / (high - low))
        shown = name if len(name) <= room else name[: max(1, room - 1)] + "…"
        _text(
            axes,
            (left + right) / 2,
            1.01,
            shown,
            7.2,
            _QUIET,
            axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
        )


def _headline(axes: Axes, title: str, shown: Sequence[Series]) -> None:
    """The title above the axes, and below it the names of the lines, each in its colour."""
    figure = axes.figure
    width, height = figure.get_size_inches()  # type: ignore[union-attr]
    _text(axes, 0.02 / width, 1 - 0.16 / height, title, 9.6, _INK, figure.transFigure, weight="bold")
    left = 0.03
    for series in shown:
        y = 1 - 0.39 / height
        dash: Any = (0, (2.6, 1.6)) if series.colour == _QUIET else "solid"
        line = axes.plot(
            [left / width, (left + 0.17) / width], [y, y], color=series.colour, linewidth=2, linestyle=dash,
            transform=figure.transFigure, clip_on=False, scalex=False, scaley=False,
        )  # fmt: skip
        line[0].set_in_layout(False)
        _text(axes, (left + 0.22) / width, y, series.name, 8.2, _QUIET, figure.transFigure)
        left += 0.42 + 0.072 * len(series.name)


def _text(
    axes: Axes, x: float, y: float, text: str, size: float, colour: str, transform: Any,
    weight: str = "normal", ha: Any = "left", va: Any = "center_baseline", rotation: float = 0.0,
) -> None:  # fmt: skip
    axes.text(
        x, y, text, color=colour, parse_math=False, transform=transform, ha=ha, va=va, rotation=rotation,
        rotation_mode="anchor", fontproperties=FontProperties(family="DejaVu Sans", size=size, weight=weight),
    )  # fmt: skip


def weight_map(title: str, weights: object, names: object, space: str | None) -> Figure | None:
    """Heat map of softmax weights, one row per edge, one column per primitive; ``None`` where there are none.

    ``weights`` and ``names`` are lists per edge; edges may know different primitives. The strongest primitive
    of an edge is framed; a primitive that an edge does not know is left blank.
    """
    table = _weight_table(weights, names)
    if not table:
        return None
    order = {primitive: index for index, primitive in enumerate(PRIMITIVES)}
    columns = sorted({name for row in table for name in row}, key=lambda name: (order.get(name, 99), name))
    labels = edge_names(len(table))
    cell, left = (_WIDTH - 0.8) / max(6, len(columns)), 0.75
    top = 0.55 + 0.067 * max(len(label_of(name, space)) for name in columns)
    y = _row_places(len(table), top)
    height = y[-1] + _ROW + 0.06
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    _text(axes, 0.02, 0.16, title, 9.6, _INK, axes.transData, weight="bold")
    for index, name in enumerate(columns):
        _text(
            axes, left + cell * (index + 0.5), top - 0.08, label_of(name, space), 7.6, _QUIET, axes.transData,
            rotation=90, va="center",
        )  # fmt: skip
    high = max(0.3, max(value for row in table for value in row.values()))
    for line, (label, row) in enumerate(zip(labels, table, strict=True)):
        _text(axes, left - 0.08, y[line] + _ROW / 2, label, 8.4, _QUIET, axes.transData, ha="right")
        strongest = max(row, key=lambda name: row[name]) if row else ""
        for index, name in enumerate(columns):
            if name in row:
                _heat_cell(axes, left + cell * index, y[line], cell, row[name], high, name == strongest)
    return figure


def _heat_cell(axes: Axes, x: float, y: float, width: float, value: float, high: float, strongest: bool) -> None:
    share = value / high
    corners: Callable[[float], tuple[list[float], list[float]]] = lambda inset: (  # noqa: E731
        [x + inset, x + width - inset, x + width - inset, x + inset],
        [y + inset, y + inset, y + _ROW - inset, y + _ROW - inset],
    )
    axes.fill(*corners(0.012), facecolor=_HEAT(share), edgecolor="none")
    if strongest:
        axes.fill(*corners(0.02), facecolor="none", edgecolor=ORANGE, linewidth=1.5)
    ink = "white" if share > 0.5 else _INK if share > 0.2 else _QUIET
    _text(
        axes, x + width / 2, y + _ROW / 2, f"{value:.2f}", 7.0, ink, axes.transData,
        ha="center", weight="bold" if strongest else "normal",
    )  # fmt: skip


def _weight_table(weights: object, names: object) -> list[dict[str, float]]:
    """One {primitive: weight} per edge."""
    table = []
    known = items(names)
    for index, row in enumerate(items(weights)):
        own = items(known[index]) if index < len(known) else []
        labels = [str(name) for name in own] or [f"op {k}" for k in range(len(items(row)))]
        values = [number(value) for value in items(row)]
        table.append({n: v for n, v in zip(labels, values, strict=False) if v is not None})
    return table if any(table) else []


def edge_names(edges: int) -> list[str]:
    """Names like "cₖ₋₂ → 0" for the edges of a full cell: node j has edges from all states before it."""
    ends = [(source, node) for node in range(_nodes(edges)) for source in range(node + 2)]
    inputs = ("cₖ₋₂", "cₖ₋₁")
    named = [f"{inputs[source] if source < 2 else source - 2} → {node}" for source, node in ends]
    return named or [f"edge {index}" for index in range(edges)]


def _nodes(edges: int) -> int:
    """The nodes n of a full cell of ``edges`` edges, n (n + 3) / 2 = edges; 0 where there is no such n."""
    return next((nodes for nodes in range(1, edges + 1) if nodes * (nodes + 3) == 2 * edges), 0)


def _row_places(edges: int, top: float) -> list[float]:
    """The heights of the rows, those of one node close together."""
    starts = {nodes * (nodes + 3) // 2 for nodes in range(1, _nodes(edges))}
    places = []
    for row in range(edges):
        top += 0.07 if row in starts else 0.0
        places.append(top)
        top += _ROW
    return places
