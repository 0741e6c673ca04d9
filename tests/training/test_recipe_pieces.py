"""The pieces of a recipe in whole trainings: each changes what is learned, and continues bit for bit after stops."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load, load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from binarch.data import DataConfig, Dataset, split
from binarch.data import load as load_data
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.runs import RunFolder
from binarch.training import Display, TrainConfig, evaluate, evaluate_run, load_network, train
from binarch.training import loop as loop_module

#: Two stages of two epochs of two steps.
PLAIN = TrainConfig(
    data=DataConfig(limit=80, image_size=8), network=NetworkConfig(width=4), epochs=(2,), learning_rate=(5e-3,),
    batch_size=32, crop_padding=1, device="cpu", precision="32",
)  # fmt: skip
PIECES: dict[str, dict[str, Any]] = {
    "flip": {"flip": "alternating"},
    "crop_fill": {"crop_fill": "reflect"},
    "average": {"average": 3},
    "recalibrate": {"recalibrate": 3},
    "teacher": {"teacher": "previous-stage", "teacher_weight": 0.9},
    "whiten": {"whiten": True},
    "muon": {"optimizer": "muon", "weight_decay": (0.01,)},
    "average, recalibrate": {"average": 3, "recalibrate": 2},
}
TIMES = ("seconds", "images_per_second", "train_seconds")


class Killed(Exception):
    """As if the power had gone."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data(PLAIN.data)


def trained(config: TrainConfig, digits: Dataset, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], bytes]:
    """Result, metrics (without times) and weights of a training."""
    train("vgg-small", config, digits, RunFolder(folder), Display(console=Console(quiet=True)), resume=True)
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in RunFolder(folder).metrics()]
    result = {k: v for k, v in RunFolder(folder).read_json("result.json").items() if k not in TIMES}
    return result, rows, (folder / "network.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plain(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights without any piece."""
    return trained(PLAIN, digits, tmp_path_factory.mktemp("plain"))[2]


@pytest.fixture
def killed_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[[], None]]:
    """End without a warning in a step, with a checkpoint behind every step."""
    monkeypatch.setattr(loop_module, "CHECKPOINT_SECONDS", -1.0)

    def begin(step: int) -> Callable[[], None]:
        left = [step]

        def look(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        return register_optimizer_step_post_hook(look).remove

    return begin


@pytest.mark.parametrize("name", PIECES)
def test_it_changes_the_network_and_continues_bit_for_bit(
    name: str, digits: Dataset, plain: bytes, killed_in: Callable[[int], Callable[[], None]], tmp_path: Path
) -> None:
    config = replace(PLAIN, **PIECES[name])
    whole = trained(config, digits, tmp_path / "whole")
    assert whole[2] != plain
    for step in (2, 5):  # in the middle of each stage
        end = killed_in(step)
        with pytest.raises(Killed):
            trained(config, digits, tmp_path / "stopped")
        end()
    assert trained(config, digits, tmp_path / "stopped") == whole
    with pytest.raises(UserError, match=r"is not what .* was begun with"):
        trained(PLAIN, digits, tmp_path / "stopped")
    scored = evaluate_run(RunFolder(tmp_path / "whole"), None, "cpu")
    assert scored["test_loss"] == pytest.approx(whole[0]["test_loss"], rel=1e-5)


def test_averages_are_what_is_validated_and_kept(digits: Dataset, tmp_path: Path) -> None:
    config = replace(PLAIN, average=3)
    result, rows, _ = trained(config, digits, tmp_path)
    network, _ = load_network(RunFolder(tmp_path))
    assert evaluate(network, digits.test(), digits).loss == pytest.approx(result["test_loss"])
    assert {row["validated"] for row in rows} == {"average of the weights"}
    state = RunFolder(tmp_path).load_checkpoint()["task"]  # type: ignore[index]
    kept, last = load_file(tmp_path / "network.safetensors"), state["network"]
    assert all(torch.equal(kept[name], state["average"][f"module.{name}"]) for name in kept)
    assert any(not torch.equal(kept[name], last[name]) for name in kept)


def test_only_statistics_change_after_training_and_are_judged_again(
    digits: Dataset, plain: bytes, tmp_path: Path
) -> None:
    result, rows, weights = trained(replace(PLAIN, recalibrate=3), digits, tmp_path)
    found, before = load(weights), load(plain)
    changed = {name for name in before if not torch.equal(found[name], before[name])}
    assert changed == {name for name in before if name.endswith(("running_mean", "running_var", "batches_tracked"))}
    network, _ = load_network(RunFolder(tmp_path))
    parts = split(digits.train.labels, PLAIN.validation, PLAIN.seed)
    again = evaluate(network, digits.train.subset(parts[1]), digits)
    assert result["validation_accuracy"] == again.accuracy
    assert rows[-1]["validation_loss"] != again.loss
