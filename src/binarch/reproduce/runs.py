"""The runs behind a table: one folder each; what is finished is read back, what was stopped is continued."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar, final

from binarch.data import Dataset, load
from binarch.errors import UserError
from binarch.models import Architecture
from binarch.report import save_drawing, write_report
from binarch.runs import RunFolder, read_json, to_plain
from binarch.search import SearchConfig, search
from binarch.spaces import Genotype
from binarch.training import Display, TrainConfig, train
from binarch.training.device import Device

Config = TypeVar("Config", SearchConfig, TrainConfig)


#: Seeds that a table looks for.
SEEDS = range(100)


def check_seeds(seeds: int) -> None:
    """Refuse a number of trainings that a table cannot hold."""
    if not 0 <= seeds <= len(SEEDS):
        raise UserError(f"--seeds {seeds}: is not possible; use 1 to {len(SEEDS)}, or 0 for the budget's number")


@final
class Runs:
    """The searches and trainings of one table in folders below ``out``, all on the same images and device.

    ``workers`` is how many candidates of a search are trained at a time.
    """

    def __init__(
        self, out: Path, display: Display, *, table: str, dataset: str, data: Path | None, device: Device,
        workers: int = 1,
    ) -> None:  # fmt: skip
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out}: is a file; give a folder")
        if (out / "table.json").is_file() and (there := read_json(out / "table.json").get("table", "table1")) != table:
            raise UserError(f"--out {out}: holds {there}; give {table} a folder of its own")
        self.out, self.display, self.table = out, display, table
        self.dataset, self.data, self.device, self.workers = dataset, data, device, workers
        self._loaded: dict[object, Dataset] = {}

    def folder(self, name: str) -> RunFolder:
        """Where the run ``name`` lives."""
        return RunFolder(self.out / name)

    def finished(self, name: str) -> bool:
        """Whether the run has its result."""
        return self.folder(name).has("result.json")

    def placed(self, config: Config) -> Config:
        """``config`` on this table's images and device."""
        placed = replace(config, data=replace(config.data, dataset=self.dataset, data=self.data), device=self.device)
        return replace(placed, workers=self.workers) if isinstance(placed, SearchConfig) else placed

    def check(self, name: str, config: Config) -> None:
        """Refuse a run that was begun with other settings, of another budget for one: it belongs to another table."""
        folder = self.folder(name)
        if folder.has("config.json"):
            folder.claim(to_plain(self.placed(config)), resume=True, defaults=to_plain(type(config)()))

    def train(self, name: str, title: str, arch: Architecture, config: TrainConfig) -> None:
        """One training, its drawing and its report; ``title`` is what people read."""
        config, folder = self.placed(config), self.folder(name)
        if not self.finished(name):
            self.display.say(f"{title}: {self.out / name}")
            train(arch, config, self._load(config), folder, self.display, resume=True)
        if not folder.has("report.html"):  # new, or stopped before it was told
            if not isinstance(arch, str):
                save_drawing(arch, folder / "cells.svg", config.network.space)
            write_report(folder.path)

    def search(self, name: str, title: str, config: SearchConfig) -> Genotype:
        """One search; its genotype."""
        config, folder = self.placed(config), self.folder(name)
        if not self.finished(name):
            self.display.say(f"{title}: {folder.path}")
            search(config, self._load(config), folder, self.display, resume=True)
        genotype = Genotype.load(folder / "genotype.json")
        if not folder.has("report.html"):
            save_drawing(genotype, folder / "cells.svg", config.space)
            write_report(folder.path)
        return genotype

    def _load(self, config: SearchConfig | TrainConfig) -> Dataset:
        if config.data not in self._loaded:
            dataset = load(config.data)
            if not dataset.has_test:
                raise UserError(
                    f"--dataset {self.dataset}: has no test images, which a table needs; choose another one"
                )
            self._loaded[config.data] = dataset
        return self._loaded[config.data]
