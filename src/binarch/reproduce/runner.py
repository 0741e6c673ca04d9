"""Makes the rows of a table, run by run; what is finished is read back, what was stopped is continued."""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from binarch.data import Dataset, load
from binarch.deploy import bench, pack_run
from binarch.errors import UserError
from binarch.models import find_architecture
from binarch.report import write_report
from binarch.reproduce.budget import Budget
from binarch.reproduce.row import RecipeName, Row
from binarch.runs import RunFolder, to_plain
from binarch.training import Display, TrainConfig, train
from binarch.training.device import Device


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
    packed_bytes: int | None
    """None where the network cannot be packed."""
    packed_ms: float | None
    """One image, one thread; None where it was not measured."""

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


@final
class Runner:
    """Trains rows under one budget into one folder per run: ROW-RECIPE-SEED."""

    def __init__(
        self, out: Path, budget: Budget, display: Display, *, dataset: str, data: Path | None, device: Device
    ) -> None:
        self.out, self.budget, self.display = out, budget, display
        self.dataset, self.data, self.device = dataset, data, device
        self._loaded: dict[Any, Dataset] = {}

    def check(self, row: Row, recipe: RecipeName, seeds: Sequence[int]) -> None:
        """Refuse runs that were begun with other settings, of another budget for one: they belong to another table."""
        for seed in seeds:
            folder = self.folder(row, recipe, seed)
            if folder.has("config.json"):
                folder.claim(to_plain(self.config(row, recipe, seed)), resume=True)

    def train(self, row: Row, recipe: RecipeName, seed: int) -> None:
        """One training, and its report."""
        folder = self.folder(row, recipe, seed)
        if folder.has("result.json"):
            return
        config = self.config(row, recipe, seed)
        self.display.say(f"{row.method} ({row.name}), {recipe} recipe, seed {seed}: {folder.path}")
        arch = find_architecture(row.recipes[recipe].arch)
        dataset = self._load(config)
        if not dataset.has_test:
            raise UserError(f"--dataset {self.dataset}: has no test images, which a table needs; choose another one")
        train(arch, config, dataset, folder, self.display, resume=True)
        write_report(folder.path)

    def line(self, row: Row, recipe: RecipeName, seeds: Sequence[int], *, timed: bool) -> Line | None:
        """What the finished runs among ``seeds`` say; None where there is none."""
        folders = [self.folder(row, recipe, seed) for seed in seeds]
        done = [folder for folder in folders if folder.has("result.json")]
        if not done:
            return None
        results = [folder.read_json("result.json") for folder in done]
        config = self.config(row, recipe, 0)
        size, took = None, None
        with suppress(UserError):  # a network that cannot be packed keeps its line
            program = pack_run(done[0])
            size = len(program.encode())
            took = bench(program, [], seconds=1.0).results[0].median_ms if timed else None
        return Line(
            row.name,
            recipe,
            row.recipes[recipe].arch,
            config.network.width,
            tuple(100 * result["test_accuracy"] for result in results),
            results[0]["costs"]["params"],
            results[0]["costs"]["binary_macs"],
            results[0]["costs"]["macs"],
            sum(config.epochs) if len(config.epochs) > 1 else config.epochs[0] * len(config.binarize),
            statistics.mean(result["train_seconds"] for result in results),
            size,
            took,
        )

    def folder(self, row: Row, recipe: RecipeName, seed: int) -> RunFolder:
        """Where a run lives."""
        return RunFolder(self.out / f"{row.name}-{recipe}-{seed}")

    def config(self, row: Row, recipe: RecipeName, seed: int) -> TrainConfig:
        """The settings of a run."""
        config = self.budget.train_config(row.recipes[recipe])
        data = replace(config.data, dataset=self.dataset, data=self.data)
        return replace(config, data=data, device=self.device, seed=seed)

    def _load(self, config: TrainConfig) -> Dataset:
        if config.data not in self._loaded:
            self._loaded[config.data] = load(config.data)
        return self._loaded[config.data]
