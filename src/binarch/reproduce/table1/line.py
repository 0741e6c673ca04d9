"""What the finished trainings of one row and recipe say."""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, final

from binarch.deploy import bench, pack_run
from binarch.errors import UserError
from binarch.reproduce.table1.row import RecipeName, Row
from binarch.runs import RunFolder, read_json

TITLES = (
    "method", "bits (W/A)", "published on CIFAR-10, %", "ours, %", "n", "recipe", "network", "parameters",
    "binary MACs", "packed", "one image", "epochs", "training",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Line:
    """One row under one recipe, as far as its runs are finished."""

    row: str
    recipe: RecipeName
    arch: str
    width: int
    accuracies: tuple[float, ...]
    """Test accuracy of each seed, in percent."""
    params: int
    binary_macs: int
    macs: int
    epochs: int
    train_seconds: float
    """Mean of the seeds."""
    packed_bytes: int | None = None
    """None where it was not measured, or where the network cannot be packed."""
    packed_ms: float | None = None
    """One image, one thread."""

    @property
    def mean(self) -> float:
        """Mean accuracy in percent."""
        return statistics.mean(self.accuracies)

    @property
    def sd(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return {**asdict(self), "mean": self.mean, "sd": self.sd}

    def texts(self, row: Row) -> list[str]:
        """As text, under :data:`TITLES`."""
        spread = f" ± {self.sd:.2f}" if len(self.accuracies) > 1 else ""
        return [
            row.method,
            row.bits,
            f"{row.published:.1f} ({row.architecture})",
            f"{self.mean:.2f}{spread}",
            str(len(self.accuracies)),
            self.recipe,
            f"{self.arch}, width {self.width}" if self.width else self.arch,
            f"{self.params:,}",
            f"{self.binary_macs / 1e6:.1f} of {self.macs / 1e6:.1f} M",
            "-" if self.packed_bytes is None else f"{self.packed_bytes / 1e3:,.1f} kB",
            "-" if self.packed_ms is None else f"{self.packed_ms:.2f} ms",
            str(self.epochs),
            f"{self.train_seconds / 60:.1f} min",
        ]


def read_line(row: Row, recipe: RecipeName, width: int, done: Sequence[RunFolder], *, packed: bool) -> Line | None:
    """The line of the finished runs ``done``, first seed first; None where there is none.

    ``packed`` packs and times the first one's network, which takes seconds.
    """
    if not done:
        return None
    results = [read_json(folder / "result.json") for folder in done]
    size, took = None, None
    if packed:
        with suppress(UserError):  # a network that cannot be packed keeps its line
            program = pack_run(done[0])
            size = len(program.encode())
            took = bench(program, [], seconds=1.0).results[0].median_ms
    costs = results[0]["costs"]
    return Line(
        row.name,
        recipe,
        row.recipes[recipe].arch,
        width,
        tuple(100 * result["test_accuracy"] for result in results),
        costs["params"],
        costs["binary_macs"],
        costs["macs"],
        results[0]["epochs"],
        statistics.mean(result["train_seconds"] for result in results),
        size,
        took,
    )
