"""The repairs of DARTS in whole searches: alone, together, stopped and continued, and refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from binarch.data import DataConfig, Dataset, derive_seed, load
from binarch.errors import UserError
from binarch.runs import RunFolder
from binarch.search import SearchConfig, search
from binarch.search.differentiable import halves, search_gradient
from binarch.search.search_task import SearchTask
from binarch.spaces import Genotype
from binarch.training import Display
from binarch.training.device import make_fabric

TINY = SearchConfig(
    data=DataConfig(limit=40), cells=(3,), channels=8, groups=2, epochs=(2,), batch_size=10,
    alpha_learning_rate=0.05, crop_padding=1, flip="none", rank_epochs=1,
)  # fmt: skip
ALL: dict[str, Any] = {"partial": 2, "auxiliary_skip": True, "beta_weight": 2.0}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TINY.data)


def quiet() -> Display:
    return Display(console=Console(quiet=True))


def rows_of(config: SearchConfig, digits: Dataset, folder: Path) -> list[dict[str, Any]]:
    search_gradient(config, 0, digits, RunFolder(folder), quiet())
    return RunFolder(folder).metrics()


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "darts", "space": "darts", "partial": 2, "epochs": (1,)},
        {"strategy": "darts", "space": "darts", "channels": 4, "auxiliary_skip": True, "warmup_epochs": 1},
        {"strategy": "bats", "channels": 4, "beta_weight": 2.0},
        {"strategy": "darts-second", "space": "darts", **ALL},
        {"strategy": "bats", "binarize": "both", "keep": (4,), "skip_dropout": (0.3,), **ALL},
    ],
)
def test_searches_with_repairs(settings: dict[str, Any], digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, **settings)
    genotype = search(config, digits, RunFolder(tmp_path), quiet())
    assert Genotype.load(tmp_path / "genotype.json") == genotype
    assert genotype.normal.count("none") + genotype.normal.count("auxiliary") == 0
    rows = RunFolder(tmp_path).metrics()
    for row in rows:
        assert ("edge_weights_normal" in row) == (config.partial > 1)
        assert ("auxiliary_skip" in row) == config.auxiliary_skip
        assert ("beta_weight" in row) == (config.beta_weight > 0)
        assert [sum(edge) for edge in row["alphas_reduce"]] == pytest.approx([1] * 14, abs=1e-4)
        if config.partial > 1:
            assert sum(row["edge_weights_reduce"]) == pytest.approx(4, abs=1e-4)
        if config.auxiliary_skip:  # anew in each stage
            assert row["auxiliary_skip"] == 1 - row["epoch"] / config.epochs[0]
        if config.beta_weight:
            assert row["beta_weight"] == config.beta_weight * row["epoch"] / config.epochs[0]


@pytest.mark.parametrize("strategy", ["darts", pytest.param("darts-second", marks=pytest.mark.slow)])
def test_beta_decay_starts_in_the_second_epoch_and_flattens(strategy: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, strategy=strategy, channels=4, binarize="none")
    off = rows_of(config, digits, tmp_path / "off")
    on = rows_of(replace(config, beta_weight=20.0), digits, tmp_path / "on")
    assert on[0]["alphas_normal"] == off[0]["alphas_normal"]
    assert on[1]["alphas_normal"] != off[1]["alphas_normal"]
    assert on[1]["entropy_normal"] > off[1]["entropy_normal"]


@pytest.mark.parametrize(
    "strategy, binarize", [pytest.param("bats", "both", marks=pytest.mark.slow), ("darts-second", "none")]
)
def test_a_search_continues_bit_for_bit_from_every_step(
    strategy: str, binarize: str, digits: Dataset, tmp_path: Path
) -> None:
    config = replace(TINY, strategy=strategy, binarize=binarize, skip_dropout=(0.2,), **ALL)
    fabric = make_fabric("cpu", "32")
    parts = halves(digits, fabric)

    def begin(state: dict[str, Any] | None, folder: str) -> SearchTask:
        task = SearchTask(config, 0, 0, digits, parts, fabric, RunFolder(tmp_path / folder), None)
        if state is not None:
            task.load_state(state)
        return task

    def run(*, stop: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Steps and ends of epochs, each by a new task that has read the state of the one before if ``stop``."""
        folder = "stopped" if stop else "whole"
        task, rows = begin(None, folder), []
        for epoch in range(task.epochs):
            for step in range(task.steps):
                torch.manual_seed(derive_seed(0, epoch, step))
                task.step(epoch, step)
                task = begin(saved(task, folder), folder) if stop else task
            rows.append(task.epoch_end(epoch, [0.0, 0.0, 1.0]))
        return task.state(), rows

    def saved(task: SearchTask, folder: str) -> dict[str, Any]:
        RunFolder(tmp_path / folder).save_checkpoint(task.state())
        state = RunFolder(tmp_path / folder).load_checkpoint()
        assert state is not None
        return state

    (whole, rows), (stopped, again) = run(stop=False), run(stop=True)
    assert rows == again
    assert whole["supernet"].keys() == stopped["supernet"].keys()
    assert all(torch.equal(value, stopped["supernet"][name]) for name, value in whole["supernet"].items())
    assert "edge_alphas_normal" in whole["supernet"]


@pytest.mark.parametrize("strategy", ["random", "evolution", "reinforce"])
@pytest.mark.parametrize("option", list(ALL))
def test_strategies_without_a_supernet_refuse_them(strategy: str, option: str) -> None:
    with pytest.raises(UserError, match=f"^{option}: .* gradient strategies .* {strategy} "):
        SearchConfig(strategy=strategy, **{option: ALL[option]})


def test_impossible_values_name_themselves(digits: Dataset, tmp_path: Path) -> None:
    for option, value in (
        ("partial", 0), ("partial", -2), ("beta_weight", -1.0), ("beta_weight", float("nan")),
        ("beta_weight", float("inf")),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^{option}"):
            replace(TINY, **{option: value})
    with pytest.raises(UserError, match=r"^partial: 4 leaves 2 of 8 channels"):
        search(replace(TINY, partial=4), digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()
