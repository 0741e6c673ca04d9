"""Reproduced figures as Markdown, and as one self-contained HTML page."""

from dataclasses import dataclass
from importlib.resources import files
from typing import final

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from binarch.report.encode import inline_svg


@final
@dataclass(frozen=True)
class Drawing:
    """A figure of the supplement; ``file`` is its name without suffix."""

    file: str
    title: str
    caption: str
    figure: Figure


@final
@dataclass(frozen=True)
class Claim:
    """A sentence of the supplement, whether it holds of our searches, and why."""

    text: str
    verdict: str
    reason: str


@final
@dataclass(frozen=True)
class Table:
    """Rows of text under a heading; the first column is words, the others are numbers or short."""

    heading: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@final
@dataclass(frozen=True)
class Page:
    """All that is told."""

    title: str
    notes: tuple[str, ...]
    drawings: tuple[Drawing, ...]
    claims: tuple[Claim, ...] = ()
    tables: tuple[Table, ...] = ()

    def markdown(self) -> str:
        """As Markdown that reads well as plain text too: columns are aligned."""
        lines = [f"# {self.title}", *_paragraphs(self.notes)]
        for drawing in self.drawings:
            lines += ["", f"![{drawing.title}]({drawing.file}.svg)", "", f"**{drawing.title}.** {drawing.caption}"]
        if self.claims:
            lines += ["", "## What the supplement says of binary cells", ""]
            lines += [f"- {claim.text}: **{claim.verdict}** ({claim.reason})" for claim in self.claims]
        for table in self.tables:
            lines += [
                "",
                f"## {table.heading}",
                "",
                *_aligned(table),
                *_paragraphs((table.note,) if table.note else ()),
            ]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """As a page that loads nothing from elsewhere."""
        template = jinja2.Environment(
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        return template.from_string(files(__package__).joinpath("figures.html.j2").read_text(encoding="utf-8")).render(
            page=self,
            pictures=[
                (drawing, Markup(inline_svg(drawing.figure, drawing.title, f"{drawing.file}-")))
                for drawing in self.drawings
            ],
        )


def _paragraphs(texts: tuple[str, ...]) -> list[str]:
    return [line for text in texts for line in ("", text)]


def _aligned(table: Table) -> list[str]:
    widths = [max(map(len, column)) for column in zip(table.titles, *table.rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        padded = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths))
    return [line(table.titles), f"|{rule}|", *map(line, table.rows)]
