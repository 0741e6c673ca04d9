"""The report of a run: one page that holds everything, opens anywhere and prints well."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from binarch.errors import UserError
from binarch.report import words
from binarch.report.charts import (
    ACCURACY,
    COLLAPSE,
    EDGES,
    ENTROPY,
    FLIPS,
    LEARNING_RATE,
    LOSS,
    SATURATED,
    Curve,
    curve_chart,
    weight_map,
)
from binarch.report.draw import draw_genotype, draw_thumbnail
from binarch.report.encode import inline_svg
from binarch.report.primitive import FAMILIES, Family, cell_statistics
from binarch.report.story import Row, Run, items, mapping, number, phase_of, phase_rows, read_run
from binarch.runs import write_atomic
from binarch.spaces.genotype import Genotype

_THUMBNAILS: Final = 8
_COSTS: Final = (
    ("params", "Parameters", words.count),
    ("macs", "Multiply-accumulates, all", words.count),
    ("binary_macs", "Multiply-accumulates, binary", words.count),
    ("float_macs", "Multiply-accumulates, full precision", words.count),
    ("bytes_packed", "Size with packed binary weights", words.size),
)


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    label: str
    value: str


@dataclass(frozen=True)
class Frame:
    """The cells after one epoch (counted from 1)."""

    epoch: int
    thumbnail: Markup
    drawing: Markup


@dataclass(frozen=True)
class Section:
    """Search or training: charts in rows of two, the cells through the epochs."""

    title: str
    note: str
    charts: tuple[Markup, ...]
    frames: tuple[Frame, ...] = ()
    maps: tuple[Markup, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One line of the ranking; ``bar`` is the accuracy between the field's worst (0.1) and best (1)."""

    rank: int
    name: str
    seed: str
    accuracy: str
    bar: float
    params: str
    cells: str
    thumbnail: Markup | None
    selected: bool


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run folder ``run`` and return its path.

    The page loads nothing from elsewhere: style and pictures are inside. Parts for which the folder holds
    nothing are left out; a folder that holds nothing at all is a :class:`~binarch.errors.UserError`.
    """
    page = run / "report.html"
    write_atomic(page, _render(read_run(run)))
    return page


def _render(run: Run) -> str:
    search, train = phase_of(run, "search"), phase_of(run, "train")
    result = {**search.result, **train.result, **run.result}
    space = _space(run, search, train)
    pictures = _Pictures()
    genotype = next((r.genotype for r in (run, train, search) if r.genotype), None)
    sections = [_search_section(search, space, pictures), _train_section(train, pictures)]
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return template.from_string(files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8")).render(
        name=run.name,
        verb=words.plain(run.config.get("verb", "run")),
        date=words.plain(run.environment.get("date", ""))[:10],
        space=space or "",
        tiles=_tiles(run, search, train, result),
        warnings=[words.plain(warning) for warning in items(result.get("warnings"))] + list(_damaged(run)),
        cells=pictures.cells(genotype, space) if genotype else None,
        legend=_legend(genotype, search),
        sections=[section for section in sections if section],
        ranking=_ranking(result, pictures),
        costs=_costs(mapping(result.get("costs"))),
        binary_share=_binary_share(mapping(result.get("costs"))),
        children=_children(run),
        configuration=_groups(run.config),
        environment=_groups(run.environment),
        classes=[words.plain(name) for name in items(result.get("classes"))],
    )


class _Pictures:
    """Figures as markup for one page, each with ids of its own."""

    def __init__(self) -> None:
        self._count = 0

    def inline(self, figure: Figure, label: str) -> Markup:
        """``figure`` as an ``<svg>`` element; ``label`` is read out where pictures cannot be seen."""
        self._count += 1
        return Markup(inline_svg(figure, label, f"p{self._count}-"))

    def cells(self, genotype: Genotype, space: str | None) -> Markup:
        """Both cells, drawn large and to one scale."""
        return self.inline(draw_genotype(genotype, space), "Normal cell and reduction cell")

    def thumbnail(self, genotype: Genotype, label: str) -> Markup:
        """Both cells, small."""
        return self.inline(draw_thumbnail(genotype), label)

    def charts(self, curves: Sequence[Curve], runs: Sequence[Sequence[Row]]) -> tuple[Markup, ...]:
        """Those of ``curves`` that were recorded; the last of an odd number is as wide as two."""
        known = [curve for curve in curves if any(series.key in row for series in curve.series for row in chain(*runs))]
        figures = [
            (curve.title, curve_chart(curve, runs, wide=curve is known[-1] and len(known) % 2 == 1))
            for curve in known
        ]  # fmt: skip
        return tuple(self.inline(figure, title) for title, figure in figures if figure)


def _search_section(run: Run, space: str | None, pictures: _Pictures) -> Section | None:
    runs = phase_rows(run, "search")
    rows = [rows for _, rows in runs]
    charts = pictures.charts((LOSS, ACCURACY, ENTROPY, COLLAPSE, LEARNING_RATE), rows)
    last = rows[-1][-1] if rows else {}
    maps = []
    for cell, title in (("normal", "Normal cell"), ("reduce", "Reduction cell")):
        figure = weight_map(title, last.get(f"alphas_{cell}"), last.get(f"operations_{cell}"), space)
        if figure:
            maps.append(pictures.inline(figure, f"Architecture weights, {title.lower()}"))
    kept = run if run.genotypes else next((child for child in run.children if child.genotypes), run)
    frames = tuple(
        Frame(
            epoch + 1,
            pictures.thumbnail(found, f"Cells after epoch {epoch + 1}"),
            pictures.cells(found, space),
        )
        for epoch, found in _evenly(kept.genotypes)
    )
    if not (charts or maps or frames):
        return None
    return Section("Search", _curves_note(runs), charts, frames, tuple(maps))


def _train_section(run: Run, pictures: _Pictures) -> Section | None:
    runs = phase_rows(run, "train")
    curves = (LOSS, ACCURACY, LEARNING_RATE, FLIPS, SATURATED, EDGES)
    charts = pictures.charts(curves, [rows for _, rows in runs])
    return Section("Training", _curves_note(runs), charts) if charts else None


def _curves_note(runs: Sequence[tuple[str, Sequence[Row]]]) -> str:
    epochs = max((len(rows) for _, rows in runs), default=0)
    if not epochs:
        return ""
    text = f"{epochs} epoch{'s' if epochs > 1 else ''}"
    if len(runs) > 1:
        text = f"{len(runs)} seeds, up to {text} each; lines of one colour are seeds"
    speeds = [speed for _, rows in runs for row in rows if (speed := number(row.get("images_per_second")))]
    return text + (f" · {sum(speeds) / len(speeds):,.0f} images per second" if speeds else "")


def _evenly(genotypes: Sequence[tuple[int, Genotype]]) -> list[tuple[int, Genotype]]:
    """At most eight of ``genotypes``, evenly spread, the first and the last among them."""
    last = len(genotypes) - 1
    if last < _THUMBNAILS:
        return list(genotypes)
    return [genotypes[round(k * last / (_THUMBNAILS - 1))] for k in range(_THUMBNAILS)]


def _tiles(run: Run, search: Run, train: Run, result: Row) -> list[Tile]:
    costs = mapping(result.get("costs"))
    share = _binary_share(costs)
    network, arch = mapping(train.config.get("network")), train.config.get("arch")
    scheme = network.get("scheme")
    cells = "" if scheme in (None, "bats") else f"{scheme} cells"
    found = [
        ("Method", f"{scheme} on {arch}" if arch else cells),
        ("Test accuracy", words.percent(result.get("test_accuracy"))),
        ("Validation accuracy", words.percent(result.get("validation_accuracy"))),
        ("Parameters", words.count(costs.get("params"))),
        ("Binary share of MACs", words.percent(share)),
        ("Packed size", words.size(costs.get("bytes_packed"))),
        ("Search time", words.duration(result.get("search_seconds") or _seconds(search, "search"))),
        ("Training time", words.duration(result.get("train_seconds") or _seconds(train, "train"))),
    ]
    return [Tile(label, value) for label, value in found if value]


def _seconds(run: Run, phase: str) -> float | None:
    """All recorded epochs together, where the result does not say."""
    return sum(number(row.get("seconds")) or 0.0 for row in run.rows(phase)) or None


def _binary_share(costs: Row) -> float | None:
    binary, full = number(costs.get("binary_macs")), number(costs.get("float_macs"))
    macs = number(costs.get("macs")) or (binary or 0.0) + (full or 0.0)
    return None if binary is None or not macs else binary / macs


def _costs(costs: Row) -> list[tuple[str, str, str]]:
    """(what, readable, exact) of all known costs."""
    rows = [(label, form(costs.get(key)), number(costs.get(key))) for key, label, form in _COSTS]
    return [(label, text, f"{exact:,.0f}") for label, text, exact in rows if exact is not None]


def _space(*runs: Run) -> str | None:
    return next((run.config["space"] for run in runs if isinstance(run.config.get("space"), str)), None)


def _damaged(run: Run) -> Iterator[str]:
    yield from run.damaged
    for child in run.descendants():
        yield from (f"{_relative(run, child)}/{text}" for text in child.damaged)


def _relative(run: Run, child: Run) -> str:
    return child.folder.relative_to(run.folder).as_posix()


def _legend(genotype: Genotype | None, search: Run) -> tuple[Family, ...]:
    return FAMILIES if genotype or search.genotypes else ()


def _ranking(result: Row, pictures: _Pictures) -> list[Candidate]:
    found = [mapping(candidate) for candidate in items(result.get("candidates"))]
    found = [candidate for candidate in found if candidate]
    found.sort(key=lambda candidate: -(number(candidate.get("validation_accuracy")) or 0.0))
    scores = [number(candidate.get("validation_accuracy")) or 0.0 for candidate in found]
    spread = (max(scores) - min(scores)) or 1.0 if scores else 1.0
    ranking = []
    for rank, (candidate, score) in enumerate(zip(found, scores, strict=True), 1):
        name = words.plain(candidate.get("name", f"candidate {rank}"))
        genotype = _genotype(candidate.get("genotype"))
        ranking.append(
            Candidate(
                rank,
                name,
                words.plain(candidate["seed"]) if "seed" in candidate else "",
                words.percent(candidate.get("validation_accuracy")),
                0.1 + 0.9 * (score - min(scores)) / spread,
                words.count(candidate.get("params")),
                _cells_line(genotype) if genotype else "",
                pictures.thumbnail(genotype, f"Cells of {name}") if genotype else None,
                "selected" in result and candidate.get("name") == result["selected"],
            )
        )
    return ranking


def _genotype(value: object) -> Genotype | None:
    try:
        return Genotype.from_dict(value)
    except UserError:
        return None


def _cells_line(genotype: Genotype) -> str:
    normal, reduce = cell_statistics(genotype.normal), cell_statistics(genotype.reduce)
    free = normal["parameter_free"] + reduce["parameter_free"]
    edges = len(genotype.normal.edges) + len(genotype.reduce.edges)
    return f"depth {normal['depth']} and {reduce['depth']}, {free} of {edges} operations parameter-free"


def _children(run: Run) -> list[dict[str, Any]]:
    """The runs inside, with a link where they have a page of their own."""
    lines = []
    for child in run.descendants():
        report = child.folder / "report.html"
        where = _relative(run, child)
        lines.append(
            {
                "name": where,
                "link": f"./{quote(where)}/report.html" if report.is_file() else "",
                "verb": words.plain(child.config.get("verb", "")),
                "epochs": len(child.metrics) or "",
                "validation": words.percent(child.result.get("validation_accuracy")),
                "test": words.percent(child.result.get("test_accuracy")),
                "params": words.count(mapping(child.result.get("costs")).get("params")),
                "time": words.duration(sum(_seconds(child, phase) or 0.0 for phase in ("search", "train")) or None),
            }
        )
    return lines


def _groups(settings: Row) -> list[tuple[str, list[tuple[str, str]]]]:
    """(heading, [(name, value)]): what is not nested first, then one group per nested object."""
    loose = [(str(key), words.plain(value)) for key, value in settings.items() if not mapping(value)]
    groups = [("", loose)] if loose else []
    for key, value in settings.items():
        if mapping(value):
            groups.append((str(key), list(_flat(value))))
    return groups


def _flat(settings: Row, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if mapping(value):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", words.plain(value)
