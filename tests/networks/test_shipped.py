"""Every network that comes with the package: sound, small, whole, and the same bits as when it was shipped."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import binarch
from binarch.data import DataConfig
from binarch.data import load as load_data
from binarch.deploy import open_program
from binarch.errors import UserError
from binarch.models import MODELS
from binarch.networks import Shipped, find, load, model_card, probes, shipped
from binarch.networks.shipped import LARGEST_FILE
from binarch.runs import from_plain
from binarch.runtime import Network, reference
from binarch.runtime import load as load_file
from binarch.spaces import PUBLISHED
from binarch.training import TrainConfig

ALL = list(shipped().values())
every = pytest.mark.parametrize("network", ALL, ids=lambda network: network.name)
#: Local copies of data that are not embedded in a library, relative to the repository.
COPIES = {"cifar10": Path(__file__).parents[2].resolve() / "../shared/data/cifar10"}


def logits_of(network: Shipped) -> np.ndarray:
    """What the identity says of the probes."""
    return np.array(network.identity["probe_logits"], np.float64)


def test_there_is_one_and_its_folder_is_its_name() -> None:
    assert "digits" in shipped()
    assert all(network.name == name == network.folder.name for name, network in shipped().items())
    assert not set(shipped()) & {*MODELS, *PUBLISHED}


@every
def test_the_file_is_small_and_the_one_that_was_shipped(network: Shipped) -> None:
    content = network.file.read_bytes()
    assert len(content) == network.identity["bytes"] <= LARGEST_FILE
    assert hashlib.sha256(content).hexdigest() == network.identity["sha256"]


@every
def test_the_identity_is_whole(network: Shipped) -> None:
    card, identity = network.program.card, network.identity
    assert {"classes", "data", "test_accuracy", "scheme", "network", "seed", "costs"} <= set(card)
    assert ("genotype" in card) == ("arch" not in card["network"])
    settings = {name: value for name, value in identity["config"].items() if name != "arch"}
    config = from_plain(settings, TrainConfig, network.folder / "identity.json")
    assert config.seed == card["seed"]
    assert config.data.data is None, "where the images lay is nobody's business"
    assert identity["data"]["name"] == card["data"]
    assert len(identity["accuracy_by_class"]) == len(card["classes"])
    assert {"date", "python", "torch", "cpu"} <= set(identity["trained"])
    assert {"date", "python", "torch", "binarch", "numpy", "numba"} <= set(identity["packed"])


@every
def test_the_reference_gives_the_stated_bits(network: Shipped) -> None:
    image = network.program.image
    images = probes((image.height, image.width, image.channels)).transpose(0, 3, 1, 2)
    found = reference.run(network.program, images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(found.astype(np.float64), logits_of(network))


@every
def test_the_kernels_give_the_stated_bits(network: Shipped) -> None:
    runner = load(network.name)
    np.testing.assert_array_equal(runner.run(probes(runner.size)).astype(np.float64), logits_of(network))


@every
def test_it_is_as_good_as_it_says(network: Shipped) -> None:
    config = from_plain(network.identity["config"]["data"], DataConfig, network.folder)
    if config.dataset != "digits" and not COPIES.get(config.dataset, Path("nowhere")).is_dir():
        pytest.skip(f"no copy of {config.dataset} here")
    size = network.program.image.height
    dataset = load_data(replace(config, data=COPIES.get(config.dataset), image_size=size, limit=1000))
    images = dataset.test()
    answers = load(network.name).run(images.pixels.permute(0, 2, 3, 1).numpy()).argmax(1)
    right = answers == images.labels.numpy()
    assert float(right.mean()) == network.program.card["test_accuracy"]
    by_class = [float(right[images.labels.numpy() == label].mean()) for label in range(len(dataset.classes))]
    assert by_class == network.identity["accuracy_by_class"]
    assert len(images) == network.identity["data"]["test_images"]


@every
def test_its_page_is_written_by_code_and_tells_what_matters(network: Shipped) -> None:
    page = (network.folder / "README.md").read_text()
    assert page == model_card(network)
    assert all(f"| {name} |" in page for name in network.program.classes)
    assert all(word in page for word in ("Training", "Accuracy", "Limits", "Licence", network.identity["sha256"]))


@every
def test_a_name_and_its_file_load_the_same(network: Shipped) -> None:
    by_name, by_file = binarch.load(network.name), load_file(network.file)
    assert type(by_name) is type(by_file) is Network
    assert by_name.program.encode() == by_file.program.encode() == network.file.read_bytes()
    assert binarch.load(network.file, threads=2).threads == 2


def test_a_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("not me")
    assert find("digits") == shipped()["digits"].file
    assert find("./digits").read_text() == "not me"
    assert find(Path("digits")).read_text() == "not me"
    Path("digits").unlink()
    Path("digits").mkdir()
    with pytest.raises(UserError, match=r"config\.json"):
        open_program("./digits")  # the folder of a run, or none, but never the network of that name


def test_an_unknown_name_is_told_the_names_there_are(tmp_path: Path) -> None:
    for source in ("digit", str(tmp_path / "net.safetensors"), str(tmp_path)):
        with pytest.raises(UserError) as error:
            binarch.load(source)
        assert source in str(error.value)
        assert all(name in str(error.value) for name in shipped())


def test_probes_are_the_same_pictures_for_ever() -> None:
    images = probes((8, 8, 3))
    assert (images.shape, images.dtype) == ((4, 8, 8, 3), np.uint8)
    assert (images[0] == 0).all()
    assert (images[1] == 255).all()
    assert images[2, 2, 3].tolist() == [113, 198, 27]
    # 2654435761 = 0x9E3779B1 is the hash of pixel 0; its third byte is 0x37.
    assert images[3, 0, 0, 0] == 0x37
    assert images[3, 0, 0, 1] == (2 * 0x9E3779B1 % 2**32) >> 16 & 255
    assert len(np.unique(images[3])) > 100
