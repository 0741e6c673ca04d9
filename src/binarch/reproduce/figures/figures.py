"""The supplement's Fig. 1 and Fig. 2, drawn from searches and from the code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from binarch.errors import UserError
from binarch.report import Caption, Panel, draw_diagrams, draw_panels
from binarch.report.encode import FORMATS, encode
from binarch.reproduce.figures.contrast import LEVEL, MEASURES, Contrast, contrast, mean_sd, other_differences, signed
from binarch.reproduce.figures.finding import Finding, find_searches
from binarch.reproduce.figures.operation import operation_diagram
from binarch.reproduce.figures.page import Claim, Drawing, Page, Table
from binarch.reproduce.figures.permutation import SPLITS
from binarch.runs import environment, write_atomic
from binarch.training import Display

TITLE: Final = "Figures 1 and 2 of the supplement again"
#: A command that makes a search, binary or not.
_MAKES: Final = {
    True: "binarch search --binarize activations --out runs/binary",
    False: "binarch search --binarize none --out runs/real",
}
#: Any width that the groups divide shows the same layers.
_CHANNELS: Final = 36
_GROUPS: Final = 12
#: Heading, space as it is written, space, operation.
_OPERATIONS: Final = (
    ("(a) Separable", "DARTS", "darts", "sep_conv"),
    ("(b) Dilated separable", "DARTS", "darts", "dil_conv"),
    ("(c) Grouped", "BATS", "bats", "sep_conv"),
    ("(d) Dilated grouped", "BATS", "bats", "dil_conv"),
)


def reproduce_figures(out: Path, cells: Sequence[Path], display: Display) -> dict[str, Any]:
    """Draw Fig. 2 and, from the searches in the folders ``cells``, Fig. 1; write both and what they say to ``out``.

    Each figure becomes .svg, .pdf and .png; ``figures.md``, ``figures.html`` and ``figures.json`` hold captions and the
    statistics of all searches. Fig. 1 needs a binary and a real-valued search, or it is a :class:`UserError`; without
    ``cells`` it is left out.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    findings = find_searches(cells)
    contrasts = [contrast(measure, findings) for measure in MEASURES] if findings else []
    if findings:
        page = _page(findings, contrasts)
    else:
        how = f"--cells with folders of a binary search ({_MAKES[True]}) and of a real-valued one ({_MAKES[False]})"
        page = Page(TITLE, (f"Fig. 1 is left out: it needs {how}.",), (_second(),))
        display.say(page.notes[0])
    for drawing in page.drawings:
        for form in FORMATS:
            write_atomic(out / f"{drawing.file}.{form}", encode(drawing.figure, form))
    write_atomic(out / "figures.md", page.markdown())
    write_atomic(out / "figures.html", page.html())
    record = {
        "figures": {drawing.file: drawing.caption for drawing in page.drawings},
        "measures": [one.to_dict() for one in contrasts],
        "searches": [finding.to_dict() for finding in findings],
        "env": environment(),
    }
    write_atomic(out / "figures.json", json.dumps(record, indent=1) + "\n")
    return {
        **{drawing.file: str(out / f"{drawing.file}.pdf") for drawing in page.drawings},
        "page": str(out / "figures.html"),
        **{claim.text: f"{claim.verdict} ({claim.reason})" for claim in page.claims},
    }


def _page(findings: Sequence[Finding], contrasts: Sequence[Contrast]) -> Page:
    claims = [one for one in contrasts if one.measure.claim]
    drawings = _first(_choose(findings, True), _choose(findings, False)), _second()
    return Page(
        TITLE,
        (f"Fig. 1 shows one search of either kind; the claims were tested on all {len(findings)}.",),
        drawings,
        tuple(Claim(one.measure.claim, one.verdict, one.reason) for one in claims),
        (_statistics(contrasts, findings), _searches(findings)),
    )


def _choose(findings: Sequence[Finding], binary: bool) -> Finding:
    """The first search of strategy bats, or else the first."""
    kind = [finding for finding in findings if finding.binary == binary]
    if not kind:
        word = "binary" if binary else "real-valued"
        raise UserError(f"--cells: holds no {word} search, which Fig. 1 needs; make one with {_MAKES[binary]}")
    return min(kind, key=lambda finding: finding.strategy != "bats")


def _first(binary: Finding, real: Finding) -> Drawing:
    rows = [
        [
            Panel(f"({letter}) {word} cell, {kind}", cell, finding.space)
            for letter, word, cell in zip(
                letters, ("Normal", "Reduction"), (finding.genotype.normal, finding.genotype.reduce), strict=True
            )
        ]
        for letters, kind, finding in (("ab", "binary", binary), ("cd", "real-valued", real))
    ]
    sources = [
        f"{kind} ({row} row: strategy {one.strategy} in the {one.space} space, binarization {one.binarization}, seed "
        f"{one.seeds}; {one.folder})"
        for kind, row, one in (("binary", "first", binary), ("real-valued", "second", real))
    ]
    caption = (
        f"Normal and reduction cells that searches found: {sources[0]} and {sources[1]}. Nodes add their two edges; "
        "the output c_k concatenates. Dashed edges have no convolution."
    )
    return Drawing("fig1", "Fig. 1", caption, draw_panels(rows, compact=True))


def _second() -> Drawing:
    diagrams = [
        (Caption(title, f"{name} space, {kind}"), operation_diagram(space, kind, channels=_CHANNELS, groups=_GROUPS))
        for title, name, space, kind in _OPERATIONS
    ]
    caption = (
        "Convolutional operations of the DARTS space (a, b) and of the BATS space (c, d), at stride 1, traced from the "
        "modules that are trained. k × k is the kernel size (3 × 3 or 5 × 5), ⊕ the element-wise sum; what carries one "
        "bit is yellow."
    )
    return Drawing("fig2", "Fig. 2", caption, draw_diagrams(diagrams))


def _statistics(contrasts: Sequence[Contrast], findings: Sequence[Finding]) -> Table:
    rows = []
    for one in contrasts:
        unit = one.measure.unit
        rows.append(
            (
                f"{one.measure.name} ({unit})",
                str(len(one.binary)),
                mean_sd(one.binary, unit),
                str(len(one.real)),
                mean_sd(one.real, unit),
                "-" if one.difference is None else signed(one.difference, unit),
                "-" if one.test is None else f"{one.test.p:.3g}",
                "-" if one.test is None else f"{'all' if one.test.exact else f'{SPLITS:,} of'} {one.test.splits:,}",
            )
        )
    titles = ("measure", "n", "binary", "n", "real-valued", "binary minus real", "p", "splits")
    return Table("Binary and real-valued cells", titles, tuple(rows), _explanation(findings))


def _explanation(findings: Sequence[Finding]) -> str:
    text = (
        "Mean ± sd over searches, the cells that a search chose being one observation; shares and kernels are of both "
        "cells together, and n leaves out cells without convolutions where it is about them. p: two-sided permutation "
        "test of the difference of means, over all splits of the searches or a seeded sample of them; a claim holds or "
        f"does not hold where p is at most {LEVEL:g}. The p are not corrected for there being several."
    )
    others = other_differences(findings)
    if not others:
        return text
    told = [f"{name} ({', '.join(binary)} | {', '.join(real)})" for name, (binary, real) in others.items()]
    return f"{text} The settings differ in more than bits (binary | real), which may be the cause: {'; '.join(told)}."


def _searches(findings: Sequence[Finding]) -> Table:
    rows = []
    for finding in findings:
        values = [measure.of(finding.genotype) for measure in MEASURES]
        numbers = ["-" if value is None else f"{value:.3g}" for value in values]
        rows.append(
            (str(finding.folder), finding.binarization, finding.strategy, finding.space, finding.seeds, *numbers)
        )
    titles = ("folder", "binarization", "strategy", "space", "seed", *(measure.short for measure in MEASURES))
    return Table("The searches", titles, tuple(rows))
