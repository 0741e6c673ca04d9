"""A reproduced table as Markdown, and as one self-contained HTML page with a picture."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from binarch.report.encode import encode
from binarch.reproduce.row import Row
from binarch.reproduce.runner import Line

TITLES: Final = (
    "method", "bits (W/A)", "published on CIFAR-10, %", "ours, %", "n", "recipe", "network", "parameters",
    "binary MACs", "packed", "one image", "epochs", "training",
)  # fmt: skip


def cells(row: Row, line: Line) -> list[str]:
    """One line of the table, as text."""
    spread = f" ± {line.sd:.2f}" if len(line.accuracies) > 1 else ""
    return [
        row.method,
        row.bits,
        f"{row.published:.1f} ({row.architecture})",
        f"{line.mean:.2f}{spread}",
        str(len(line.accuracies)),
        line.recipe,
        f"{line.arch}, width {line.width}" if line.width else line.arch,
        f"{line.params:,}",
        f"{line.binary_macs / 1e6:.1f} of {line.macs / 1e6:.1f} M",
        "-" if line.packed_bytes is None else f"{line.packed_bytes / 1e3:,.1f} kB",
        "-" if line.packed_ms is None else f"{line.packed_ms:.2f} ms",
        str(line.epochs),
        f"{line.train_seconds / 60:.1f} min",
    ]


def markdown(title: str, notes: Sequence[str], rows: Mapping[str, Row], lines: Sequence[Line]) -> str:
    """The table, what it means, and what differs from the published trainings."""
    table = ["| " + " | ".join(TITLES) + " |", "|" + "---|" * len(TITLES)]
    table += ["| " + " | ".join(cells(rows[line.row], line)) + " |" for line in lines]
    shown = dict.fromkeys(line.row for line in lines)
    differs = [f"- {rows[name].method} ({name}): {'; '.join(rows[name].deviations)}" for name in shown]
    return "\n".join([f"# {title}", "", *notes, "", *table, "", "## What differs from the published", "", *differs, ""])


def html(title: str, notes: Sequence[str], rows: Mapping[str, Row], lines: Sequence[Line]) -> str:
    """The same as a page that loads nothing from elsewhere."""
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return template.from_string(files(__package__).joinpath("table.html.j2").read_text()).render(
        title=title,
        notes=notes,
        titles=TITLES,
        lines=[cells(rows[line.row], line) for line in lines],
        picture=Markup(encode(picture(rows, lines), "svg").decode()),
        deviations=[(rows[name].method, rows[name].deviations) for name in dict.fromkeys(line.row for line in lines)],
    )


def picture(rows: Mapping[str, Row], lines: Sequence[Line]) -> Figure:
    """A dot per run: our accuracies beside those that were published on CIFAR-10."""
    names = list(dict.fromkeys(line.row for line in lines))
    figure = Figure(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        axes.plot(rows[name].published, place, "D", color="#888888", markersize=7, markerfacecolor="none")
    for recipe, colour, shift in (("own", "#1f5fa8", -0.14), ("common", "#c4641a", 0.14)):
        dots = [(score, names.index(line.row) + shift) for line in lines if line.recipe == recipe
                for score in line.accuracies]  # fmt: skip
        if dots:
            axes.plot(*zip(*dots, strict=True), "o", color=colour, markersize=5, label=f"ours, {recipe} recipe")
    axes.plot([], [], "D", color="#888888", markerfacecolor="none", label="published on CIFAR-10")
    axes.set_yticks(range(len(names)), [f"{rows[name].method} {rows[name].bits}" for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="x", color="#dddddd")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.9 / (len(names) + 2)), ncols=3, frameon=False)
    return figure
