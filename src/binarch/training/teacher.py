"""A trained network that is asked while another one is trained: what it would answer, or what it finds hard."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from binarch.data import Channels, Dataset
from binarch.errors import UserError
from binarch.runs import RunFolder
from binarch.training.trained import load_network

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@final
class Teacher:
    """Says what a trained network thinks of a batch: in evaluation mode, without gradients.

    ``fabric`` gives it the run's device and precision. Batches come as ``dataset`` normalises them; a teacher that was
    trained with another ``mean`` and ``std`` sees them as it is used to.
    """

    def __init__(self, network: nn.Module, fabric: "Fabric", dataset: Dataset, mean: Channels, std: Channels) -> None:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = fabric.setup_module(network.requires_grad_(False)).eval()
        there, here = (torch.tensor(pair, dtype=torch.float64) for pair in ((mean, std), (dataset.mean, dataset.std)))
        scale, shift = here[1] / there[1], (here[0] - there[0]) / there[1]
        self.scale, self.shift = (value.float().view(1, 3, 1, 1).to(fabric.device) for value in (scale, shift))

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, S, S)."""
        return self.network(x * self.scale + self.shift)


def load_teacher(flag: str, name: str, fabric: "Fabric", dataset: Dataset) -> Teacher:
    """The network of the finished training in folder ``name``, which ``flag`` gave; every rank reads it.

    One of other classes, or of another image size, is a :class:`UserError`.
    """
    folder = RunFolder(name)
    try:
        taught, _ = load_network(folder)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    known = folder.read_json("result.json")
    if known["classes"] != list(dataset.classes):
        raise UserError(
            f"{flag}: {name} knows the classes {', '.join(known['classes'][:5])}..., not "
            f"{', '.join(dataset.classes[:5])}...; give a training on the same classes"
        )
    if known["image_size"] != dataset.image_size:
        raise UserError(
            f"{flag}: {name} was trained on images of {known['image_size']} pixels, not {dataset.image_size}; give a "
            "training on the same --image-size"
        )
    return Teacher(taught, fabric, dataset, tuple(known["mean"]), tuple(known["std"]))


def weights_of(name: str) -> Path:
    """The file of weights in the folder ``name``."""
    return Path(name) / "network.safetensors"


def fingerprint(flag: str, name: str) -> str:
    """SHA-256 of the weights of the training in folder ``name``, which ``flag`` gave."""
    file = weights_of(name)
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{flag}: {file}: cannot be read ({error.strerror}); give the folder of a training") from None
