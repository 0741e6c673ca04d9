"""A dot per run, row by row: the picture of a reproduced table."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def dot_plot(rows: Sequence[str], height: float, measure: str, draw: Callable[[Axes], None]) -> Figure:
    """A figure of ``rows`` from top to bottom, each ``height`` inches high, with ``measure`` from left to right.

    ``draw`` puts the dots on the axes: row number i is at height i, what it labels is explained above.
    """
    figure = Figure(figsize=(8, height * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel(measure)
    axes.grid(axis="x", color="#dddddd")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (len(rows) + 2)), ncols=3, frameon=False)
    return figure
