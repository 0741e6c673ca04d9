"""What the finished runs of one system and mode say."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from binarch.report.primitive import kernel_of
from binarch.reproduce.table2.system import Mode, System
from binarch.runs import RunFolder, read_json
from binarch.spaces import Genotype

TITLES = (
    "system", "published: error on CIFAR-10, %", "published: parameters", "published: search", "ours", "ours: error, %",
    "ours: n", "ours: parameters, k", "random: error, %", "random: n", "random: parameters, k", "ours - random",
    "our search", "a training", "depth", "5x5",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Line:
    """A system in one mode, as far as its runs are finished."""

    system: str
    mode: Mode
    errors: tuple[float, ...]
    """Test error of each training of the cell, in percent."""
    params: int
    twin_errors: tuple[float, ...]
    """Test errors of random cells of that size, one training each."""
    twin_params: float | None
    """Mean of theirs."""
    search_seconds: float | None
    """None where nothing was searched; the ranking of candidates included."""
    train_seconds: float
    """Mean of the trainings."""
    depth: int | None
    """Of the normal cell; None for networks that are no genotype."""
    large_kernels: float | None
    """Share of 5 x 5 among both cells' convolutions; None where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)

    @property
    def difference(self) -> float | None:
        """Mean error of the cell minus that of random cells, in points; None without such."""
        return statistics.mean(self.errors) - statistics.mean(self.twin_errors) if self.twin_errors else None

    def texts(self, system: System) -> list[str]:
        """As text, under :data:`TITLES`; what was published is of real-valued networks."""
        real = self.mode != "binary"
        return [
            system.name,
            f"{system.error:.2f}" if real and system.error is not None else "-",
            f"{system.params:.1f} M" if real and system.params is not None else "-",
            f"{system.gpu_days:,g} GPU days" if real and system.gpu_days is not None else "-",
            self.mode,
            spread(self.errors),
            str(len(self.errors)),
            f"{self.params / 1e3:,.1f}",
            spread(self.twin_errors),
            str(len(self.twin_errors)) if self.twin_errors else "-",
            "-" if self.twin_params is None else f"{self.twin_params / 1e3:,.1f}",
            "-" if self.difference is None else f"{self.difference:+.2f}",
            "-" if self.search_seconds is None else f"{self.search_seconds / 60:.1f} min",
            f"{self.train_seconds / 60:.1f} min",
            "-" if self.depth is None else str(self.depth),
            "-" if self.large_kernels is None else f"{self.large_kernels:.0%}",
        ]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation; ``-`` for none."""
    if not values:
        return "-"
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def read_line(
    system: System, mode: Mode, searched: RunFolder | None, trained: Sequence[RunFolder], twins: Sequence[RunFolder]
) -> Line | None:
    """The line of finished runs: the search, trainings of its cell, trainings of random cells of that size."""
    if not trained:
        return None
    results = [read_json(folder / "result.json") for folder in trained]
    others = [read_json(folder / "result.json") for folder in twins]
    genotype = Genotype.load(trained[0] / "genotype.json") if trained[0].has("genotype.json") else None
    return Line(
        system.name,
        mode,
        tuple(100 * (1 - result["test_accuracy"]) for result in results),
        results[0]["costs"]["params"],
        tuple(100 * (1 - result["test_accuracy"]) for result in others),
        statistics.mean(result["costs"]["params"] for result in others) if others else None,
        None if searched is None else search_cost(searched),
        statistics.mean(result["train_seconds"] for result in results),
        None if genotype is None else genotype.normal.depth,
        None if genotype is None else large_kernels(genotype),
    )


def search_cost(folder: RunFolder) -> float:
    """Seconds of a search: supernets or candidates, and the ranking."""
    result = folder.read_json("result.json")
    return float(result.get("search_seconds", 0.0) + result.get("rank_seconds", 0.0))


def large_kernels(genotype: Genotype) -> float | None:
    """Share of kernels of 5 x 5 among both cells' convolutions; None where there is no convolution."""
    edges = (*genotype.normal.edges, *genotype.reduce.edges)
    kernels = [kernel for edge in edges if (kernel := kernel_of(edge.primitive)) is not None]
    return kernels.count(5) / len(kernels) if kernels else None
