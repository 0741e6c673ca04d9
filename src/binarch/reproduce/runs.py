"""The runs behind a table: one folder each; what is finished is read back, what was stopped is continued."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar, final

from binarch.data import Dataset, load
from binarch.errors import UserError
from binarch.models import Architecture
from binarch.report import save_drawing, write_report
from binarch.runs import RunFolder, to_plain
from binarch.search import SearchConfig, search
from binarch.spaces import Genotype
from binarch.training import Display, TrainConfig, train
from binarch.training.device import Device

Config = TypeVar("Config", SearchConfig, TrainConfig)


@final
class Runs:
    """Searches and trainings in folders below ``out``, all on the same images and device."""

    def __init__(self, out: Path, display: Display, *, dataset: str, data: Path | None, device: Device) -> None:
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out}: is a file; give a folder")
        self.out, self.display = out, display
        self.dataset, self.data, self.device = dataset, data, device
        self._loaded: dict[object, Dataset] = {}

    def folder(self, name: str) -> RunFolder:
        """Where the run ``name`` lives."""
        return RunFolder(self.out / name)

    def finished(self, name: str) -> bool:
        """Whether the run has its result."""
        return self.folder(name).has("result.json")

    def placed(self, config: Config) -> Config:
        """``config`` on this table's images and device."""
        data = replace(config.data, dataset=self.dataset, data=self.data)
        return replace(config, data=data, device=self.device)

    def check(self, name: str, config: Config) -> None:
        """Refuse a run that was begun with other settings, of another budget for one: it belongs to another table."""
        folder = self.folder(name)
        if folder.has("config.json"):
            folder.claim(to_plain(self.placed(config)), resume=True, defaults=to_plain(type(config)()))

    def train(self, name: str, title: str, arch: Architecture, config: TrainConfig) -> None:
        """One training, its drawing and its report; ``title`` is what people read."""
        if self.finished(name):
            return
        self.display.say(f"{title}: {self.out / name}")
        config, folder = self.placed(config), self.folder(name)
        train(arch, config, self._load(config), folder, self.display, resume=True)
        if not isinstance(arch, str):
            save_drawing(arch, folder / "cells.svg", config.network.space)
        write_report(folder.path)

    def search(self, name: str, title: str, config: SearchConfig) -> Genotype:
        """One search; its genotype."""
        folder = self.folder(name)
        if not self.finished(name):
            self.display.say(f"{title}: {folder.path}")
            config = self.placed(config)
            genotype = search(config, self._load(config), folder, self.display, resume=True)
            save_drawing(genotype, folder / "cells.svg", config.space)
            write_report(folder.path)
        return Genotype.load(folder / "genotype.json")

    def _load(self, config: SearchConfig | TrainConfig) -> Dataset:
        if config.data not in self._loaded:
            dataset = load(config.data)
            if not dataset.has_test:
                raise UserError(
                    f"--dataset {self.dataset}: has no test images, which a table needs; choose another one"
                )
            self._loaded[config.data] = dataset
        return self._loaded[config.data]
