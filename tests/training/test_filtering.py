"""Which images are kept, against losses one by one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.nn import functional

from binarch.data import DataConfig, Dataset, load, split
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.runs import RunFolder
from binarch.training import Display, TrainConfig, evaluate, load_network, train
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


def weights(folder: Path) -> bytes:
    return (folder / "network.safetensors").read_bytes()


def test_a_training_learns_from_them_only(earlier: str, digits: Dataset, tmp_path: Path) -> None:
    """As if the others had never been there."""
    config = replace(PLAIN, proxy=earlier, keep=0.5, validation=0.0)
    train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    kept = hardest(digits.train, load_teacher("proxy", earlier, make_fabric("cpu", "32"), digits), digits, 0.5)
    hard = Dataset(digits.name, digits.classes, digits.train.subset(kept), digits.mean, digits.std, digits.test)
    train("vgg-small", replace(PLAIN, validation=0.0), hard, RunFolder(tmp_path / "hard"), quiet())
    assert weights(tmp_path / "run") == weights(tmp_path / "hard")
    assert RunFolder(tmp_path / "run").read_json("hard.json")["images"] == kept.tolist()


def test_held_out_images_are_not_filtered_and_the_choice_is_kept(earlier: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(PLAIN, proxy=earlier, keep=0.5)
    train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    network, read = load_network(RunFolder(tmp_path / "run"))
    assert read == config
    held = digits.train.subset(split(digits.train.labels, PLAIN.validation, PLAIN.seed)[1])
    expected = RunFolder(tmp_path / "run").read_json("result.json")["validation_accuracy"]
    assert evaluate(network, held, digits).accuracy == expected
    # another choice, as another device might make it: what was chosen first stays
    other = RunFolder(tmp_path / "other")
    other.claim(RunFolder(tmp_path / "run").settings(), resume=False)
    other.write_json("hard.json", {"images": list(range(36))})
    train("vgg-small", config, digits, other, quiet(), resume=True)
    assert other.read_json("hard.json")["images"] == list(range(36))
    assert weights(tmp_path / "other") != weights(tmp_path / "run")


def test_a_run_keeps_its_proxy(earlier: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(PLAIN, proxy=earlier, keep=0.5)
    train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    train("vgg-small", replace(PLAIN, seed=1), digits, RunFolder(tmp_path / "another"), quiet())
    swapped = replace(config, proxy=str(tmp_path / "another"))
    with pytest.raises(UserError, match=r"^(proxy|filtered_by)"):
        train("vgg-small", swapped, digits, RunFolder(tmp_path / "run"), quiet(), resume=True)
    with pytest.raises(UserError, match=r"^(proxy|keep|filtered_by)"):
        train("vgg-small", PLAIN, digits, RunFolder(tmp_path / "run"), quiet(), resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.5}, "proxy, keep: None, 0.5 is not possible"),
        ({"proxy": "x"}, "proxy, keep: x, 1 is not possible"),
        ({"proxy": "x", "keep": 0.0}, "keep: 0.0 is not possible; use above 0 to 1"),
        ({"proxy": "", "keep": 0.5}, 'proxy: "" is not possible'),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(PLAIN, **settings)  # type: ignore[arg-type]


def test_a_proxy_that_is_not_there_is_told(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^proxy: nowhere.*config\.json"):
        train("vgg-small", replace(PLAIN, proxy="nowhere", keep=0.5), digits, RunFolder(tmp_path), quiet())


def test_one_image_is_too_few_to_learn_from(earlier: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(PLAIN, proxy=earlier, keep=1e-6)
    with pytest.raises(UserError, match=r"validation, keep: .* leave 1 to learn from"):
        train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()


def test_a_finished_run_does_not_ask_for_its_proxy_again(digits: Dataset, tmp_path: Path) -> None:
    train("vgg-small", PLAIN, digits, RunFolder(tmp_path / "proxy"), quiet())
    config = replace(PLAIN, proxy=str(tmp_path / "proxy"), keep=0.5)
    done = train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet())
    (tmp_path / "proxy").rename(tmp_path / "elsewhere")
    assert train("vgg-small", config, digits, RunFolder(tmp_path / "run"), quiet(), resume=True) == done
    with pytest.raises(UserError, match="holds a run already"):
        train(
            "vgg-small",
            replace(config, proxy=str(tmp_path / "elsewhere")),
            digits,
            RunFolder(tmp_path / "run"),
            quiet(),
        )
