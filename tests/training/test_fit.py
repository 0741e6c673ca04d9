"""Whole trainings at toy size."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from binarch.data import DataConfig, Dataset, load
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.runs import RunFolder
from binarch.spaces import published
from binarch.training import Display, TrainConfig, evaluate, evaluate_run, load_network, train

TINY = TrainConfig(
    data=DataConfig(limit=120), network=NetworkConfig(cells=3, channels=8, groups=2, output_scale=True),
    epochs=(2, 1), learning_rate=(5e-3,), batch_size=32, crop_padding=1, flip="none",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TINY.data)


def quiet() -> Display:
    return Display(console=Console(quiet=True))


def test_two_stages_end_with_one_bit_filters_and_the_recorded_accuracy(digits: Dataset, tmp_path: Path) -> None:
    result = train(published("pdarts"), TINY, digits, RunFolder(tmp_path), quiet())
    rows = RunFolder(tmp_path).metrics()
    assert [row["stage_name"] for row in rows] == ["binary activations"] * 2 + ["binary activations and weights"]
    assert [row["global_epoch"] for row in rows] == [0, 1, 2]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    network, config = load_network(RunFolder(tmp_path))
    assert config == TINY
    binary = [module for module in network.modules() if getattr(module, "is_binary", False)]
    assert binary
    for module in binary:
        codes, scale = module.weight_quantizer.quantize(module.weight)
        assert set(codes.unique().tolist()) <= {-1.0, 1.0}
        assert scale.numel() == len(module.weight)
    assert evaluate(network, digits.test(), digits).accuracy == pytest.approx(result["test_accuracy"])
    assert evaluate_run(RunFolder(tmp_path), None, "cpu")["test_accuracy"] == pytest.approx(result["test_accuracy"])


@pytest.mark.parametrize("space", ["bats", "darts"])
def test_real_valued_training_falls(space: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(
        TINY, network=replace(TINY.network, space=space, output_scale=False), binarize=("none",), epochs=(4,),
        weight_decay=(3e-4,), optimizer="sgd", learning_rate=(0.05,), drop_path=0.2, label_smoothing=0.1,
    )  # fmt: skip
    train(published("darts-v2"), config, digits, RunFolder(tmp_path), quiet())
    losses = [row["train_loss"] for row in RunFolder(tmp_path).metrics()]
    assert losses[-1] < losses[0]


def test_auxiliary_head_trains_and_small_images_are_refused(tmp_path: Path) -> None:
    network = replace(TINY.network, auxiliary=True)
    config = replace(TINY, network=network, data=DataConfig(limit=40, image_size=32), binarize=("both",), epochs=(1,),
                     weight_decay=(0.0,))  # fmt: skip
    train(published("darts-v1"), config, load(config.data), RunFolder(tmp_path / "a"), quiet())
    assert any(name.startswith("auxiliary.") for name in load_file(tmp_path / "a" / "network.safetensors"))
    small = replace(TINY, network=network)
    with pytest.raises(UserError, match="auxiliary"):
        train(published("darts-v1"), small, load(small.data), RunFolder(tmp_path / "b"), quiet())
    assert not (tmp_path / "b").exists()


def test_the_test_set_is_read_only_after_the_last_epoch(digits: Dataset, tmp_path: Path) -> None:
    rows_when_read = []

    def read() -> object:
        rows_when_read.append(len(RunFolder(tmp_path).metrics()))
        return digits.test()

    watched = Dataset(digits.name, digits.classes, digits.train, digits.mean, digits.std, read)
    train(published("pdarts"), TINY, watched, RunFolder(tmp_path), quiet())
    assert rows_when_read == [3]


def test_fewer_images_than_a_batch_make_one_batch(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, batch_size=500, binarize=("both",), epochs=(1,), weight_decay=(0.0,))
    train(published("pdarts"), config, digits, RunFolder(tmp_path), quiet())
    assert "fewer than a batch" in (tmp_path / "log.txt").read_text()


def test_without_validation_all_images_teach(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, validation=0.0, binarize=("both",), epochs=(1,), weight_decay=(0.0,))
    result = train(published("pdarts"), config, digits, RunFolder(tmp_path), quiet())
    assert "validation_accuracy" not in result
    assert "test_accuracy" in result


def test_a_loss_that_is_no_number_stops_and_says_what_to_try(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, learning_rate=(1e30,), clip=1e30, optimizer="sgd", binarize=("none",), epochs=(3,),
                     weight_decay=(0.0,))  # fmt: skip
    with pytest.raises(UserError, match=r"not finite.*--learning-rate"):
        train(published("darts-v2"), config, digits, RunFolder(tmp_path), quiet())
    assert not (tmp_path / "result.json").exists()
    saved = RunFolder(tmp_path).load_checkpoint()
    assert saved is None or all(torch.isfinite(value).all() for value in saved["task"]["network"].values())


def test_evaluating_what_is_no_finished_training_is_refused(tmp_path: Path, digits: Dataset) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        evaluate_run(RunFolder(tmp_path / "nowhere"), None, "cpu")
    train(published("pdarts"), TINY, digits, RunFolder(tmp_path / "run"), quiet())
    weights = tmp_path / "run" / "network.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match=r"network\.safetensors"):
            evaluate_run(RunFolder(tmp_path / "run"), None, "cpu")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        evaluate_run(RunFolder(tmp_path / "run"), None, "cpu")


def test_a_damaged_checkpoint_is_named_and_kept(digits: Dataset, tmp_path: Path) -> None:
    train(published("pdarts"), TINY, digits, RunFolder(tmp_path), quiet())
    (tmp_path / "result.json").unlink()
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        train(published("pdarts"), TINY, digits, RunFolder(tmp_path), quiet(), resume=True)
    assert (tmp_path / "last.ckpt").read_bytes() == b"not a checkpoint"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("binarize", ()),
        ("binarize", ("weights",)),
        ("optimizer", "adam"),
        ("loss", "hinge"),
        ("precision", "fp32"),
        ("device", "gpu"),
        ("compile", "yes"),
        ("epochs", (1, 2, 3)),
        ("epochs", (0,)),
        ("learning_rate", (0.0,)),
        ("batch_size", 1),
        ("validation", 1.0),
        ("drop_path", 1.0),
        ("label_smoothing", -0.1),
        ("clip", 0.0),
        ("weight_decay", (-1.0,)),
        ("crop_padding", -1),
        ("cutout", -2),
    ],
)
def test_impossible_settings_name_themselves(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{field}"):
        replace(TINY, **{field: value})


def test_bfloat16_trains(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, precision="bf16", epochs=(1,))
    train(published("pdarts"), config, digits, RunFolder(tmp_path), quiet())
    assert torch.isfinite(torch.tensor([row["train_loss"] for row in RunFolder(tmp_path).metrics()])).all()


def test_a_compiled_network_cannot_change_its_drop_path() -> None:
    with pytest.raises(UserError, match=r"^compile: default is not possible with drop_path"):
        replace(TINY, compile="default", drop_path=0.1)


def test_paths_are_dropped_only_where_there_are_some(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, network=NetworkConfig(width=4), binarize=("none",), epochs=(1,), drop_path=0.5)
    with pytest.raises(UserError, match=r"drop_path: 0\.5 is not possible with vgg-small"):
        train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()


def test_the_penalty_of_ccnn_does_not_go_with_a_scaler(digits: Dataset, tmp_path: Path) -> None:
    network = NetworkConfig(width=4, scheme="ccnn")
    config = replace(TINY, network=network, binarize=("both",), epochs=(1,), precision="fp16")
    with pytest.raises(UserError, match="precision: fp16 is not possible with ccnn"):
        train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes it")
def test_fp16_is_for_gpus(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fp16: is for GPUs only"):
        train(published("pdarts"), replace(TINY, precision="fp16"), digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.slow
def test_a_compiled_training_learns_the_same(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, data=DataConfig(limit=80, image_size=8), network=NetworkConfig(width=4))
    found = []
    for name, how in (("eager", "no"), ("compiled", "default")):
        own = replace(config, compile=how)
        found.append(train("vgg-small", own, digits, RunFolder(tmp_path / name), quiet()))
    assert found[1]["train_accuracy"] == pytest.approx(found[0]["train_accuracy"], abs=0.05)
    assert set(load_file(tmp_path / "compiled" / "network.safetensors")) == set(
        load_file(tmp_path / "eager" / "network.safetensors")
    )


def test_evaluation_elsewhere_normalises_as_in_training(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for place, offset in (("a", 0), ("b", 100)):
        for split, count in (("train", 6), ("test", 4)):
            for label in ("x", "y"):
                folder = tmp_path / place / split / label
                folder.mkdir(parents=True)
                for index in range(count):
                    pixels = noise.integers(0, 100, (8, 8, 3)) + offset * (split == "train")
                    if split == "test":
                        pixels = np.full((8, 8, 3), 20 * index + 100 * (label == "y"))
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    config = replace(TINY, data=DataConfig(data=tmp_path / "a"), epochs=(1,), batch_size=4, validation=0.0)
    result = train(published("pdarts"), config, load(config.data), RunFolder(tmp_path / "run"), quiet())
    scored = evaluate_run(RunFolder(tmp_path / "run"), tmp_path / "b", "cpu")
    assert scored["test_loss"] == pytest.approx(result["test_loss"], rel=1e-5)
