"""A reproduced table as Markdown, and as one self-contained HTML page with a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import final

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from binarch.report.encode import inline_svg
from binarch.runs import write_atomic


@final
@dataclass(frozen=True)
class Page:
    """A table of text with what it means, a picture of its runs, and what differs from the published trainings."""

    title: str
    notes: Sequence[str]
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: frozenset[str]
    """Titles of the columns that hold words."""
    picture: Figure
    differs: Mapping[str, Sequence[str]]
    """Deviations by row, in words."""

    def write(self, out: Path, name: str) -> None:
        """Write NAME.md and NAME.html into the folder ``out``."""
        write_atomic(out / f"{name}.md", self.markdown())
        write_atomic(out / f"{name}.html", self.html())

    def markdown(self) -> str:
        """The page as Markdown, without the picture."""
        rule = "|".join("---" if title in self.left else "---:" for title in self.titles)
        table = ["| " + " | ".join(row) + " |" for row in (self.titles, *self.rows)]
        table.insert(1, f"|{rule}|")
        differs = [f"- {name}: {'; '.join(texts)}" for name, texts in self.differs.items()]
        heading = ["", "## What differs from the published", ""] if differs else []
        return "\n".join([f"# {self.title}", "", "\n\n".join(self.notes), "", *table, *heading, *differs, ""])

    def html(self) -> str:
        """The same as a page that loads nothing from elsewhere."""
        template = jinja2.Environment(
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        return template.from_string(files(__package__).joinpath("table.html.j2").read_text(encoding="utf-8")).render(
            page=self, picture=Markup(inline_svg(self.picture, "Every run", "runs-"))
        )
