"""Teachers: what they say, which are refused, and that a run keeps its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn import functional

from binarch.data import DataConfig, Dataset, load
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.ranks import ALONE
from binarch.runs import RunFolder
from binarch.training import Display, TrainConfig, evaluate, load_network, train
from binarch.training.device import make_fabric
from binarch.training.loss import distillation
from binarch.training.teacher import load_teacher
from binarch.training.train_task import TrainTask

PLAIN = TrainConfig(
    data=DataConfig(limit=80, image_size=8), network=NetworkConfig(width=4), epochs=(1,), learning_rate=(5e-3,),
    batch_size=32, crop_padding=1, flip="none", device="cpu", precision="32",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(PLAIN.data)


def quiet() -> Display:
    return Display(console=Console(quiet=True))


@pytest.fixture(scope="module")
def taught(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real-valued training."""
    folder = tmp_path_factory.mktemp("teacher")
    train("vgg-small", replace(PLAIN, binarize=("none",)), digits, RunFolder(folder), quiet())
    return folder


def test_distillation_is_the_formula_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    logits, taught = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    p, q = ((values / 2.5).softmax(1) for values in (taught, logits))
    loss = distillation(logits, taught, 2.5)
    torch.testing.assert_close(loss, 2.5**2 * (p * (p / q).log()).sum(1).mean())
    loss.backward()
    torch.testing.assert_close(logits.grad, 2.5 * (q - p).detach() / 5)
    assert float(distillation(taught, taught, 3.0)) == pytest.approx(0, abs=1e-6)


def test_a_teacher_sees_images_as_it_is_used_to(taught: Path, digits: Dataset) -> None:
    images = digits.test().subset(torch.arange(40))
    network, _ = load_network(RunFolder(taught))
    expected = evaluate(network, images, digits)
    elsewhere = Dataset(digits.name, digits.classes, digits.train, (0.1, 0.2, 0.3), (1.0, 2.0, 0.5), digits.test)
    teacher = load_teacher("teacher", str(taught), make_fabric("cpu", "32"), elsewhere)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (elsewhere.mean, elsewhere.std))
    logits = teacher((images.pixels / 255 - mean) / std)
    assert float(functional.cross_entropy(logits, images.labels)) == pytest.approx(expected.loss, rel=1e-4)
    assert not logits.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())


def test_the_loss_of_a_step_is_the_mixture(taught: Path, digits: Dataset) -> None:
    fabric, parts = make_fabric("cpu", "32"), (digits.train, digits.train.subset(torch.arange(0)))
    teacher = load_teacher("teacher", str(taught), fabric, digits)
    sums = []
    for share, teaches in ((0.3, teacher), (1.0, teacher), (0.3, None)):
        config = replace(PLAIN, teacher=str(taught), teacher_weight=share, binarize=("both",))
        task = TrainTask(config, 0, "vgg-small", digits, parts, fabric, ALONE, None, teaches)
        sums.append(float(task.step(0, 0)[0]))
    mixed, told, labels = sums
    assert mixed == pytest.approx(0.7 * labels + 0.3 * told, rel=1e-5)
    assert told != labels


def test_a_run_keeps_its_teacher(taught: Path, digits: Dataset, tmp_path: Path) -> None:
    config = replace(PLAIN, teacher=str(taught), binarize=("both",))
    train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    load_network(RunFolder(tmp_path / "run"))
    weights = taught / "network.safetensors"
    before = weights.read_bytes()
    train("vgg-small", replace(PLAIN, binarize=("none",), seed=1), digits, RunFolder(tmp_path / "other"), quiet())
    try:
        weights.write_bytes((tmp_path / "other" / "network.safetensors").read_bytes())
        with pytest.raises(UserError, match=r"^taught_by"):
            train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet(), resume=True)
    finally:
        weights.write_bytes(before)
    with pytest.raises(UserError, match=r"^teacher: None"):
        train("vgg-small", replace(config, teacher=None), digits, RunFolder(tmp_path / "run"), quiet(), resume=True)


def test_teachers_that_do_not_fit_are_refused_before_a_folder_is_made(
    taught: Path, digits: Dataset, tmp_path: Path
) -> None:
    config = replace(PLAIN, teacher=str(taught), binarize=("both",))
    larger = load(DataConfig(limit=80, image_size=16))
    others = Dataset(digits.name, digits.classes[::-1], digits.train, digits.mean, digits.std, digits.test)
    for dataset, said in ((larger, "images of 8 pixels, not 16"), (others, "knows the classes")):
        with pytest.raises(UserError, match=said):
            train("vgg-small", config, dataset, RunFolder(tmp_path / "run"), quiet())
    with pytest.raises(UserError, match=r"config\.json"):
        train("vgg-small", replace(config, teacher="nowhere"), digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="teacher: previous-stage needs two stages"):
        replace(config, teacher="previous-stage")
    with pytest.raises(UserError, match="teacher: cannot be had with squared_hinge"):
        replace(config, loss="squared_hinge")
