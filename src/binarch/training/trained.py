"""A trained network, read back from its run folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from binarch.data import Dataset, load
from binarch.errors import UserError
from binarch.models import Architecture
from binarch.runs import RunFolder, from_plain
from binarch.spaces import Genotype
from binarch.training.config import TrainConfig
from binarch.training.device import Device, make_fabric
from binarch.training.evaluate import evaluate

#: What config.json holds besides the settings.
_BESIDE = ("verb", "space", "genotype", "arch", "found", "taught_by", "filtered_by")


def settings_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among what config.json holds."""
    return {name: value for name, value in plain.items() if name not in _BESIDE}


def load_network(folder: RunFolder) -> tuple[nn.Module, TrainConfig]:
    """The network of a finished training with its weights, and its settings."""
    plain = folder.settings()
    if plain.get("verb") != "train":
        raise UserError(f"{folder.path}: is the folder of a {plain.get('verb')}; give the folder of a training")
    config = from_plain(settings_of(plain), TrainConfig, folder / "config.json")
    if not folder.has("result.json"):
        raise UserError(f"{folder.path}: the training is not finished; continue it with binarch train --resume auto")
    known = folder.read_json("result.json")
    arch: Architecture = plain["arch"] if "arch" in plain else Genotype.load(folder / "genotype.json")
    network = config.network.build(arch, len(known["classes"]), config.stages[-1].binarize, known["image_size"])
    try:
        network.load_state_dict(load_file(folder / "network.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder / 'network.safetensors'}: cannot be read ({str(error).splitlines()[0]}); train again"
        ) from None
    return network, config


def evaluate_run(folder: RunFolder, data: Path | None, device: Device) -> dict[str, Any]:
    """Score a finished training on the test images of its data set."""
    network, config = load_network(folder)
    known = folder.read_json("result.json")
    settings = replace(config.data, image_size=known["image_size"], data=config.data.data if data is None else data)
    dataset = load(settings)
    classes = known["classes"]
    if list(dataset.classes) != classes:
        raise UserError(
            f"--data {dataset.name}: has the classes {', '.join(dataset.classes[:5])}..., the network was trained on "
            f"{', '.join(classes[:5])}...; give the data of the training"
        )
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    fabric = make_fabric(device, "32" if config.precision == "fp16" and on_cpu else config.precision)
    images = dataset.test().to(fabric.device)
    # Other training images may lie beside the test images now: normalise as in training.
    mean, std = tuple(known["mean"]), tuple(known["std"])
    dataset = Dataset(dataset.name, dataset.classes, dataset.train, mean, std, dataset.test)
    score = evaluate(fabric.setup_module(network), images, dataset, loss=config.loss)
    return {
        "test_accuracy": score.accuracy,
        "test_loss": score.loss,
        "images": len(images),
        "dataset": dataset.name,
    }
