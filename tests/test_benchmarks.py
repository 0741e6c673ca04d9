"""The scripts that measure, run at toy size: do they end, and do their pages hold what they promise?"""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from binarch.recipes import RECIPES

FOLDER = Path(__file__).parents[1] / "benchmarks"
CIFAR10 = Path(__file__).parents[1].resolve() / "../shared/data/cifar10"
needs_cifar10 = pytest.mark.skipif(not CIFAR10.is_dir(), reason="no copy of CIFAR-10 here")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of seconds."""
    for name, recipe in RECIPES.items():
        search = replace(
            recipe.search, data=replace(recipe.search.data, limit=60), cells=(3,), channels=4, groups=2, epochs=(1,),
            batch_size=16, seed=(0,), warmup_epochs=0, candidates=2, rank_epochs=1,
        )  # fmt: skip
        train = replace(
            recipe.train, data=replace(recipe.train.data, limit=60), epochs=(1,), batch_size=16,
            network=replace(recipe.train.network, cells=3, channels=4, groups=2),
        )  # fmt: skip
        monkeypatch.setitem(RECIPES, name, replace(recipe, search=search, train=train))


def test_temperature_has_a_row_for_every_temperature(tmp_path: Path) -> None:
    sweep = script("temperature")
    sweep.main(sweep.Sweep(tmp_path, seeds=(0,)))
    page = (tmp_path / "README.md").read_text()
    assert all(f"| {temperature:g} |" in page for temperature in sweep.TEMPERATURES)
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_pieces_are_told_beside_the_plain_training(tmp_path: Path) -> None:
    ablation = script("ablation")
    study = ablation.Study(tmp_path, seeds=(0, 1), epochs=5, limit=160, width=8, dataset="digits")
    ablation.main(study)
    lines = (tmp_path / "README.md").read_text().splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in lines if line.startswith("| ")}
    assert set(ablation.pieces(study, "")) < set(rows)
    mean = {name: float(cells[1].split()[0]) for name, cells in rows.items() if cells[1][0].isdigit()}
    assert float(rows["cutout of 8"][2].split()[0]) == pytest.approx(mean["cutout of 8"] - mean["plain"], abs=0.011)
    assert all(len(cells[3].split(", ")) == 2 for name, cells in rows.items() if name in mean)


@pytest.mark.slow
@needs_cifar10
def test_cifar10_study_says_who_won(tmp_path: Path) -> None:
    study = script("cifar10_cpu")
    study.main(study.Study(CIFAR10, tmp_path, seeds=(0, 1)))
    page = (tmp_path / "README.md").read_text()
    assert "| bats |" in page
    assert "| random |" in page
    assert "The higher mean is that of" in page


@pytest.mark.slow
@needs_cifar10
def test_equality_of_a_small_vgg(tmp_path: Path) -> None:
    equality = script("equality")
    equality.main(equality.Comparison(CIFAR10, tmp_path, width=8, epochs=1, limit=200, images=50))
    assert "| VGG-small, width 8 | 50 |" in (tmp_path / "README.md").read_text()


def test_second_order_is_timed_against_the_first(tmp_path: Path) -> None:
    timing = script("second_order")
    timing.main(timing.Benchmark(tmp_path, cells=3, channels=4, groups=2, image_size=8, batch=4, rounds=1, threads=1))
    page = (tmp_path / "README.md").read_text()
    assert all(f"| {name} |" in page for name in timing.SETTINGS)


def test_a_training_step_is_timed_against_the_straightforward_one(tmp_path: Path) -> None:
    timing = script("training")
    shape = {"cells": 3, "channels": 4, "groups": 2, "width": 4, "search_cells": 3, "search_channels": 4}
    settings = timing.Benchmark(tmp_path, search_groups=2, image_size=8, batch=4, rounds=1, threads=1, **shape)
    timing.main(settings)
    page = (tmp_path / "README.md").read_text()
    assert all(f"| {row} |" in page for row in settings.rows)


def test_the_work_of_a_training_step_is_counted(tmp_path: Path) -> None:
    timing = script("training")
    settings = timing.Benchmark(width=4, image_size=8)
    found = timing.work(timing.network("vgg-small", settings), 8)
    convolutions = 3 * 4 * 64 + 4 * 4 * 64 + (4 * 8 + 8 * 8) * 16 + (8 * 16 + 16 * 16) * 4
    assert found.flop == 6 * (9 * convolutions + 16 * 10)
    shape = timing.Benchmark(search_cells=3, search_channels=4, search_groups=2, image_size=8)
    assert timing.work(timing.supernet(shape, fast=False), 8).flop > 1e6
