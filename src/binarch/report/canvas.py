"""The sheet that drawings are painted on: inches, y downwards, one font."""

from functools import lru_cache
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath

FONT: Final = "DejaVu Sans"
INK: Final = "#1f2933"
QUIET: Final = "#6b7684"


def blank(width: float, height: float, scale: float = 1.0) -> Axes:
    """Axes that fill a figure, in inches before ``scale``, y downwards."""
    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return axes


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str,
    weight: str = "normal",
    centred: bool = False,
) -> None:
    """Text with its baseline's left end at (x, y), or around that point where ``centred``; "$" is a plain letter."""
    many = "\n" in text
    axes.text(
        x, y, text, color=colour, parse_math=False, linespacing=1.15,
        fontproperties=FontProperties(family=FONT, size=size, weight=weight),
        ha="center" if centred else "left", va=("center" if many else "center_baseline") if centred else "baseline",
    )  # fmt: skip


@lru_cache(maxsize=256)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches that the widest line of a plain text takes."""
    font = FontProperties(family=FONT, weight=weight)
    lines = [line.replace("$", r"\$") for line in text.split("\n") if line.strip()]
    return max((float(TextPath((0, 0), line, size=size, prop=font).get_extents().x1) / 72 for line in lines), default=0)


def rounded(
    x: float, y: float, width: float, height: float, radius: float, *, fill: str, border: str, line: float
) -> FancyBboxPatch:
    """A box with round corners around the centre (x, y)."""
    return FancyBboxPatch(
        (x - width / 2 + radius, y - height / 2 + radius),
        width - 2 * radius,
        height - 2 * radius,
        boxstyle=f"round,pad={radius},rounding_size={radius}",
        facecolor=fill,
        edgecolor=border,
        linewidth=line,
    )
