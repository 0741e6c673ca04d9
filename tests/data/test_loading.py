from pathlib import Path

import pytest
import torch

from binarch.data import CATALOGUE, DataConfig, Dataset, load
from binarch.data.dataset import statistics
from binarch.errors import UserError

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig())


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    if not CIFAR10.is_dir():
        pytest.skip("no local copy of CIFAR-10 beside the checkout")
    return load(DataConfig("cifar10", CIFAR10))


def test_digits_are_stratified_and_stretched(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.test()), digits.image_size) == (1437, 360, 8)
    assert digits.classes == tuple("0123456789")
    assert int(digits.train.pixels.max()) == 255
    assert len(digits.train.pixels.unique()) == 17
    assert torch.equal(digits.train.pixels[:, 0], digits.train.pixels[:, 2])
    counts = digits.test().labels.bincount()
    assert int(counts.min()) >= 34
    assert int(counts.max()) <= 37
    together = torch.cat([digits.train.labels, digits.test().labels])
    assert together.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_the_same_for_every_seed(digits: Dataset) -> None:
    assert torch.equal(load(DataConfig(), seed=9).train.pixels, digits.train.pixels)


def test_limit_is_seeded_and_leaves_the_test_images(digits: Dataset) -> None:
    small = load(DataConfig(limit=100), seed=1)
    assert small.train.labels.bincount().tolist() == [10] * 10
    assert len(small.test()) == 360
    assert torch.equal(small.train.pixels, load(DataConfig(limit=100), seed=1).train.pixels)
    assert not torch.equal(small.train.pixels, load(DataConfig(limit=100), seed=2).train.pixels)
    assert len(load(DataConfig(limit=10**6)).train) == 1437


def test_statistics_are_mean_and_population_deviation(digits: Dataset) -> None:
    scaled = digits.train.pixels.double() / 255
    assert digits.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-9)
    assert digits.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-9)


def test_constant_channel_has_a_usable_deviation() -> None:
    mean, std = statistics(torch.full((5, 3, 4, 4), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2, 0.2, 0.2))
    assert std == (1 / 255,) * 3


@pytest.mark.parametrize("size", [0, -4, 2, 30])
def test_image_size_must_be_a_multiple_of_four(size: int) -> None:
    with pytest.raises(UserError, match=f"image_size: {size}"):
        DataConfig(image_size=size)


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_must_be_positive(limit: int) -> None:
    with pytest.raises(UserError, match=f"limit: {limit}"):
        DataConfig(limit=limit)


def test_limit_below_two_per_class_is_refused() -> None:
    with pytest.raises(UserError, match="limit: 12"):
        load(DataConfig(limit=12))


def test_catalogue_names_what_can_be_loaded() -> None:
    assert {"digits", "cifar10", "cifar100"} < set(CATALOGUE)
    assert all("\n" not in line for line in CATALOGUE.values())


def test_cifar10_is_whole(cifar10: Dataset) -> None:
    assert cifar10.name == "cifar10"
    assert cifar10.classes == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    assert cifar10.train.pixels.shape == (50_000, 3, 32, 32)
    assert cifar10.train.labels.bincount().tolist() == [5_000] * 10
    assert cifar10.test().pixels.shape == (10_000, 3, 32, 32)
    assert cifar10.test().labels.bincount().tolist() == [1_000] * 10


def test_cifar10_has_the_constants_of_the_literature_which_its_pixels_bear_out(cifar10: Dataset) -> None:
    assert cifar10.mean == (0.49139968, 0.48215827, 0.44653124)
    assert cifar10.std == (0.24703233, 0.24348505, 0.26158768)
    mean, std = statistics(cifar10.train.pixels)
    assert mean == pytest.approx(cifar10.mean, abs=1e-6)
    assert std == pytest.approx(cifar10.std, abs=1e-6)


def test_wrong_folder_for_a_known_name_is_refused() -> None:
    if not CIFAR10.is_dir():
        pytest.skip("no local copy of CIFAR-10 beside the checkout")
    with pytest.raises(UserError, match="10 classes, not 100"):
        load(DataConfig("cifar100", CIFAR10))
