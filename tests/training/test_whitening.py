"""Whitening against its definition, and where it goes."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from binarch.data import DataConfig, Images, load
from binarch.errors import UserError
from binarch.models import NetworkConfig, build_model
from binarch.nn import binarize_
from binarch.runs import RunFolder
from binarch.training import Display, TrainConfig, train
from binarch.training.whitening import whiten_, whitening

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def smooth(count: int) -> torch.Tensor:
    """Images whose neighbouring pixels are alike, as in photographs, with means that are not 0."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return functional.interpolate(coarse, size=12, mode="bilinear") + torch.tensor([1.0, 0.0, -2.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 1)])
def test_outputs_are_uncorrelated_and_ordered_by_the_variance_they_take(kernel: tuple[int, int]) -> None:
    images = 30 * smooth(230) + torch.rand(230, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    filters = whitening(images.split(100), kernel)
    outputs = functional.conv2d(images.double(), filters.double()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(outputs), torch.eye(len(filters)).double(), atol=0.02, rtol=0)
    lengths = filters.flatten(1).norm(dim=1)
    assert (lengths.diff() >= 0).all()
    assert (filters.flatten(1).gather(1, filters.flatten(1).abs().argmax(1, keepdim=True)) > 0).all()


def test_directions_without_variance_are_not_blown_up() -> None:
    filters = whitening([torch.ones(3, 3, 6, 6)], (2, 2))
    assert filters.isfinite().all()
    assert filters.abs().max() <= 5e-4**-0.5


def images(count: int = 20, size: int = 8) -> Images:
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(2))
    return Images(pixels.to(torch.uint8), torch.zeros(count, dtype=torch.int64))


def test_it_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    config = TrainConfig(
        data=DataConfig(limit=80, image_size=8), network=NetworkConfig(scheme="bnn", width=4), binarize=("both",),
        whiten=True, device="cpu",
    )  # fmt: skip
    with pytest.raises(UserError, match="whiten: needs a real convolution"):
        train("vgg-small", config, load(config.data), RunFolder(tmp_path / "run"), Display(silent=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("filters", "left"), [(10, 0), (24, 0), (30, 6)])
def test_the_first_layer_begins_as_filters_and_their_negatives(filters: int, left: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, filters, 2)), nn.Conv2d(filters, 4, 3))
    before = [layer.weight.detach().clone() for layer in (network[0][0], network[1])]
    whiten_(network, images(), MEAN, STD)
    weight = network[0][0].weight
    assert weight.requires_grad
    assert torch.equal(network[1].weight, before[1])
    half = min(12, filters)
    pixels = (images().pixels.float() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(weight[:half], whitening([pixels], (2, 2))[:half])
    negatives = weight[12 : filters - left]
    torch.testing.assert_close(negatives, -weight[: len(negatives)])
    assert torch.equal(weight[filters - left :], before[0][filters - left :])


def test_images_are_taken_from_the_whole_set() -> None:
    """Sets may lie sorted by class: black images first must not be all that is seen."""
    given = images(10_002, 4)
    given.pixels[:5001] = 0
    network = nn.Sequential(nn.Conv2d(3, 6, 1))
    whiten_(network, given, MEAN, STD)
    assert network[0].weight.abs().max() < 5


def test_binary_first_layers_are_refused() -> None:
    network = build_model("vgg-small", classes=10, image_size=8, width=4)
    binarize_(network, "bnn")
    with pytest.raises(UserError, match="whiten: needs a real convolution as the first layer, which is QuantConv2d"):
        whiten_(network, images(), MEAN, STD)
    with pytest.raises(UserError, match="which is Linear here"):
        whiten_(nn.Sequential(nn.Linear(3, 2), nn.Conv2d(3, 2, 1)), images(), MEAN, STD)
    with pytest.raises(UserError, match="which is NoneType here"):
        whiten_(nn.Sequential(), images(), MEAN, STD)
