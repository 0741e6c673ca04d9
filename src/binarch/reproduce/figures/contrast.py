"""Binary against real-valued cells: what the supplement claims of them, measured and tested."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, Literal, final

from binarch.report import cell_statistics
from binarch.report.primitive import kernel_of
from binarch.reproduce.figures.finding import Finding
from binarch.reproduce.figures.permutation import Permutation, permutation_test
from binarch.runs import WHERE
from binarch.spaces import Genotype

#: A p above this is no evidence.
LEVEL: Final = 0.05
#: Settings that are meant to differ, or that leave a search what it is.
_NO_CAUSE: Final = ("binarize", "seed", "found", "precision", *WHERE)


@final
@dataclass(frozen=True)
class Measure:
    """One number of a genotype; None where it has none, as the kernels of cells without convolutions."""

    name: str
    short: str
    unit: Literal["edges", "%", "pixels"]
    of: Callable[[Genotype], float | None]
    claim: str = ""
    """What the supplement says of binary cells, if anything (section C and Fig. 1)."""
    sign: int = 0
    """The sign that the claim gives to the difference, binary minus real."""


def _kernels(genotype: Genotype) -> list[int]:
    found = (kernel_of(edge.primitive) for edge in (*genotype.normal.edges, *genotype.reduce.edges))
    return [kernel for kernel in found if kernel is not None]


def _share(size: int) -> Callable[[Genotype], float | None]:
    def share(genotype: Genotype) -> float | None:
        kernels = _kernels(genotype)
        return 100 * kernels.count(size) / len(kernels) if kernels else None

    return share


def _mean_kernel(genotype: Genotype) -> float | None:
    kernels = _kernels(genotype)
    return statistics.fmean(kernels) if kernels else None


def _parameter_free(genotype: Genotype) -> float:
    cells = genotype.normal, genotype.reduce
    return 100 * sum(cell_statistics(cell)["parameter_free"] for cell in cells) / sum(len(cell.edges) for cell in cells)


MEASURES: Final = (
    Measure(
        "depth, normal cell", "normal depth", "edges", lambda g: g.normal.depth, "Binary normal cells are shallower", -1
    ),
    Measure(
        "depth, reduction cell",
        "reduction depth",
        "edges",
        lambda g: g.reduce.depth,
        "Binary reduction cells are shallower",
        -1,
    ),
    Measure("3x3 among convolutions", "3x3 (%)", "%", _share(3)),
    Measure("5x5 among convolutions", "5x5 (%)", "%", _share(5), "More of the binary convolutions are 5x5", 1),
    Measure("mean kernel", "mean kernel", "pixels", _mean_kernel),
    Measure("parameter-free edges", "free (%)", "%", _parameter_free),
)


@final
@dataclass(frozen=True)
class Contrast:
    """One measure of all searches, binary and real; a search is one observation."""

    measure: Measure
    binary: tuple[float, ...]
    real: tuple[float, ...]

    @property
    def difference(self) -> float | None:
        """Mean of the binary searches minus mean of the real ones."""
        return statistics.fmean(self.binary) - statistics.fmean(self.real) if self.binary and self.real else None

    @cached_property
    def test(self) -> Permutation | None:
        """The permutation test of :attr:`difference`."""
        return permutation_test(self.binary, self.real) if self.binary and self.real else None

    @property
    def verdict(self) -> Literal["holds", "does not hold", "cannot be told"]:
        """The claim's: p at most :data:`LEVEL` and the sign of the claim, p so small and the other sign, or neither."""
        if self.test is None or self.difference is None or self.test.p > LEVEL:
            return "cannot be told"
        return "holds" if self.difference * self.measure.sign > 0 else "does not hold"

    @property
    def reason(self) -> str:
        """The numbers behind :attr:`verdict`."""
        counts = f"{len(self.binary)} binary and {len(self.real)} real-valued"
        if self.test is None or self.difference is None:
            return f"{counts} searches have a value here; one of each is needed at least"
        if self.test.smallest > LEVEL:
            return f"{counts} searches are too few: their most extreme outcome has p = {self.test.smallest:.2g}"
        return (
            f"binary minus real {signed(self.difference, self.measure.unit)}, p = {self.test.p:.3g}, {counts} searches"
        )

    def to_dict(self) -> dict[str, Any]:
        """For figures.json."""
        test = self.test
        return {
            "measure": self.measure.name,
            "unit": self.measure.unit,
            "binary": _summary(self.binary),
            "real": _summary(self.real),
            "difference": self.difference,
            "p": test and test.p,
            "splits": test and test.splits,
            "exact": test and test.exact,
            **(
                {"claim": self.measure.claim, "verdict": self.verdict, "reason": self.reason}
                if self.measure.claim
                else {}
            ),
        }


def contrast(measure: Measure, findings: Sequence[Finding]) -> Contrast:
    """``measure`` of all searches that have it."""
    values = [(finding.binary, measure.of(finding.genotype)) for finding in findings]
    binary, real = (
        tuple(float(value) for kind, value in values if kind == wanted and value is not None)
        for wanted in (True, False)
    )
    return Contrast(measure, binary, real)


def other_differences(findings: Sequence[Finding]) -> dict[str, tuple[list[str], list[str]]]:
    """Settings beside the binarization whose values are spread differently over binary and real searches.

    A difference of the cells may come from any of them. Settings that an older search does not have are left out.
    """
    shared = set.intersection(*(set(finding.settings) for finding in findings))
    shared = {name for name in shared if name.rpartition(".")[2] not in _NO_CAUSE}
    found = {}
    for name in sorted(shared):
        binary, real = (Counter(str(f.settings[name]) for f in findings if f.binary == kind) for kind in (True, False))
        if _shares(binary) != _shares(real):
            found[name] = (_counted(binary), _counted(real))
    return found


def mean_sd(values: Sequence[float], unit: str) -> str:
    """ "2.4 ± 0.5"; without a spread where there is one value, a dash where there is none."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.{_digits(unit)}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{_digits(unit)}f}{spread}"


def signed(difference: float, unit: str) -> str:
    """ "+0.25 edges"; differences of percentages are points."""
    return f"{difference:+.{_digits(unit)}f} {'points' if unit == '%' else unit}"


def _digits(unit: str) -> int:
    return 1 if unit == "%" else 2


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def _shares(values: Counter[str]) -> dict[str, Fraction]:
    return {value: Fraction(count, values.total()) for value, count in values.items()}


def _counted(values: Counter[str]) -> list[str]:
    """Values in order, with how many searches have each where that differs."""
    if len(set(values.values())) <= 1:
        return sorted(values)
    return [f"{value} x{count}" for value, count in sorted(values.items())]
