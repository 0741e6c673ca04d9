"""Which images are kept, against losses one by one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn import functional

from binarch.data import DataConfig, Dataset, load
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.runs import RunFolder
from binarch.training import Display, TrainConfig, train
from binarch.training.device import make_fabric
from binarch.training.filtering import hardest
from binarch.training.teacher import load_teacher

PLAIN = TrainConfig(
    data=DataConfig(limit=80, image_size=8), network=NetworkConfig(width=4), binarize=("none",), epochs=(1,),
    learning_rate=(5e-3,), batch_size=16, crop_padding=1, flip="none", device="cpu", precision="32",
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(PLAIN.data)


def quiet() -> Display:
    return Display(console=Console(quiet=True))


@pytest.fixture(scope="module")
def earlier(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("proxy")
    train("vgg-small", PLAIN, digits, RunFolder(folder), quiet())
    return str(folder)


@pytest.mark.parametrize(("share", "count"), [(0.5, 40), (0.26, 21), (1e-6, 1), (1.0, 80)])
def test_the_kept_are_those_of_the_largest_losses(share: float, count: int, earlier: str, digits: Dataset) -> None:
    proxy = load_teacher("proxy", earlier, make_fabric("cpu", "32"), digits)
    kept = hardest(digits.train, proxy, digits, share, 7)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) == count
    losses = []
    for pixels, label in zip(digits.train.pixels, digits.train.labels, strict=True):
        x = (pixels.float() / 255 - torch.tensor(digits.mean).view(3, 1, 1)) / torch.tensor(digits.std).view(3, 1, 1)
        losses.append(float(functional.cross_entropy(proxy(x[None]), label[None])))
    left = set(range(80)) - set(kept.tolist())
    assert min(losses[at] for at in kept) >= max((losses[at] for at in left), default=0) - 1e-5


def test_a_training_learns_from_them_only(earlier: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(PLAIN, proxy=earlier, keep=0.5)
    train("vgg-small", config, digits, RunFolder(tmp_path), quiet())
    (row,) = RunFolder(tmp_path).metrics()
    images = 32  # 8 of 80 are held out, half of the rest is left out: two batches of 16
    assert row["images_per_second"] * row["seconds"] == pytest.approx(images, rel=0.1)
    assert RunFolder(tmp_path).read_json("config.json")["filtered_by"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.5}, "proxy, keep: go together"),
        ({"proxy": "x"}, "proxy, keep: go together"),
        ({"proxy": "x", "keep": 0.0}, "keep: 0.0 is not possible; use above 0 to 1"),
        ({"proxy": "", "keep": 0.5}, 'proxy: "" is not possible'),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(PLAIN, **settings)  # type: ignore[arg-type]


def test_a_proxy_that_is_not_there_is_told(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere"):
        train("vgg-small", replace(PLAIN, proxy="nowhere", keep=0.5), digits, RunFolder(tmp_path), quiet())
