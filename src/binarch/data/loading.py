"""From a name or a folder to a :class:`Dataset`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from binarch.data.dataset import Dataset, statistics
from binarch.data.digits import open_digits
from binarch.data.folders import open_folder
from binarch.data.images import Channels, Images
from binarch.data.partition import limited
from binarch.data.pixels import decode
from binarch.data.source import Source, Split
from binarch.data.tables import open_hub, open_parquet
from binarch.errors import UserError

#: What can be given as data, for people to read.
CATALOGUE: dict[str, str] = {
    "digits": "handwritten digits, 8x8 grey, 10 classes, 1,437 + 360 images; comes with scikit-learn",
    "cifar10": "CIFAR-10, 32x32 colour, 10 classes, 50,000 + 10,000 images; the hub's uoft-cs/cifar10",
    "cifar100": "CIFAR-100, 32x32 colour, 100 classes, 50,000 + 10,000 images; the hub's uoft-cs/cifar100",
    "HUB/NAME": "any image classification set on the Hugging Face hub, by its name there",
    "a folder": "DIR/CLASS/*.png, DIR/{train,test}/CLASS/*.png, or DIR/{train,test}-*.parquet",
}


@dataclass(frozen=True)
class _Known:
    """A set of the hub whose class count and statistics are fixed by the literature."""

    hub_name: str
    classes: int
    mean: Channels
    std: Channels


_KNOWN = {
    "cifar10": _Known(
        "uoft-cs/cifar10", 10, (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    ),
    "cifar100": _Known("uoft-cs/cifar100", 100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


@dataclass(frozen=True)
class DataConfig:
    """Which images to use, and at which size."""

    dataset: str = "digits"
    """A name of the catalogue (digits, cifar10, cifar100) or of a set on the Hugging Face hub."""
    data: Path | None = None
    """A folder of class folders or of parquet files; read instead of the network."""
    image_size: int | None = None
    """Side of the square images in pixels, a multiple of 4; by default that of the files, or 32."""
    limit: int | None = None
    """Use only this many training images, every class by its share; the test images all stay."""

    def __post_init__(self) -> None:
        if self.image_size is not None and (self.image_size < 4 or self.image_size % 4):
            raise UserError(
                f"image_size: {self.image_size} is not a positive multiple of 4 (networks halve it twice); "
                f"try {max(4, round(self.image_size / 4) * 4)}"
            )
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit: {self.limit} is not positive; give a number of images, or leave it out")


def load(config: DataConfig, seed: int = 0) -> Dataset:
    """Read the training images of ``config``; ``seed`` chooses the images of a ``limit``.

    Images of any shape become squares: the shorter side is scaled, the longer one cropped around the centre.
    If no size is asked for and the files are squares of one side up to 64, that side is kept (rounded up to a
    multiple of 4); otherwise it is 32. Statistics are those of the training images in use, except for the
    names cifar10 and cifar100, which have the constants that the literature uses. Whatever is wrong with the
    source is a :class:`UserError`.
    """
    source = _find(config)
    known = _KNOWN.get(config.dataset)
    labels = source.train.labels
    _check_classes(source, labels, known)
    chosen = torch.arange(len(labels)) if config.limit is None else limited(labels, config.limit, seed)
    train = _read(source.train, labels, chosen, config.image_size)
    mean, std = (known.mean, known.std) if known else statistics(train.pixels)
    size = train.pixels.shape[-1]
    return Dataset(source.name, source.classes, train, mean, std, _test(source, size))


def _find(config: DataConfig) -> Source:
    if config.data is not None:
        return _open_path(config.data, config.dataset)
    if config.dataset == "digits":
        return open_digits()
    known = _KNOWN.get(config.dataset)
    return open_hub(known.hub_name if known else config.dataset, config.dataset)


def _open_path(path: Path, name: str) -> Source:
    """A folder; it lends its own name unless another one than the default was given."""
    if not path.is_dir():
        kind = "is not a folder" if path.exists() else "does not exist"
        raise UserError(f"data {path}: {kind}; give a folder of class folders or of train-*.parquet files")
    if name == DataConfig.dataset:
        name = path.resolve().name
    # metadata.parquet is how an image folder describes its files; it holds no images.
    files = sorted(file for file in path.rglob("*.parquet") if file.is_file() and file.name != "metadata.parquet")
    return open_parquet(path, files, name) if files else open_folder(path, name)


def _check_classes(source: Source, labels: Tensor, known: _Known | None) -> None:
    counts = torch.bincount(labels, minlength=len(source.classes))
    if len(source.classes) < 2:
        raise UserError(f"data {source.name!r}: only {len(source.classes)} class; classification needs 2 or more")
    if known and len(source.classes) != known.classes:
        raise UserError(
            f"data {source.name!r}: the folder holds {len(source.classes)} classes, not {known.classes}; "
            "give the right folder, or another name"
        )
    if int(counts.min()) < 2:
        name, count = source.classes[int(counts.argmin())], int(counts.min())
        raise UserError(f"data {source.name!r}: class {name!r} has {count} training images; every class needs 2")


def _test(source: Source, size: int) -> Callable[[], Images] | None:
    """What reads the test images. That they are there, and of known classes, is checked at once: not after days."""
    if source.test is None:
        return None
    split = source.test
    labels = split.labels
    if not len(labels):
        raise UserError(f"data {source.name!r}: the test split is empty; add images to it")
    return lambda: _read(split, labels, torch.arange(len(labels)), size)


def _read(split: Split, labels: Tensor, chosen: Tensor, size: int | None) -> Images:
    return Images(decode(lambda: split.pictures(chosen), len(chosen), size), labels[chosen])
