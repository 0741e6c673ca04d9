"""Class folders: one folder per class, image files inside.

The folder is listed here and not by the ``imagefolder`` builder of Hugging Face ``datasets``. That builder
keeps a table of the folder in a cache, guesses splits from words in file names (``cat/test_3.png`` becomes
a test image), and drops the labels when files lie at unequal depth. A listing has no copy to go stale, and an
error can name the file.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

import PIL.Image
import torch
from torch import Tensor

from binarch.data.source import TEST_NAMES, Source, Split, split_named
from binarch.errors import UserError
from binarch.pictures import Picture


@final
class FolderSplit(Split):
    """Image files with their classes."""

    def __init__(self, files: list[Path], labels: list[int]) -> None:
        self._files = files
        self._labels = torch.tensor(labels, dtype=torch.int64)

    @property
    def labels(self) -> Tensor:
        """The class of each file, by its folder."""
        return self._labels

    def pictures(self, wanted: Tensor) -> Iterator[Picture]:
        """The files."""
        for index in wanted.tolist():
            yield Picture(str(self._files[index]), self._files[index])


def open_folder(path: Path, name: str) -> Source:
    """Find ``path/CLASS/*.png`` (no test split), or ``path/train/CLASS/*.png`` and ``path/test/CLASS/*.png``.

    Splits may be spelled as in names of parquet files (Train, training, val). Classes are the folder names, sorted.
    Files that are not images by their suffix, hidden files, and folders
    without any image are passed over; images deeper inside a class folder belong to it.
    """
    splits = _splits(path)
    if splits and "train" not in splits:
        raise UserError(
            f"data {path}: has the splits {', '.join(splits)} and no training images; add {path / 'train' / 'CLASS'}"
        )
    root = splits.get("train", path)
    found = _list(root)
    classes = tuple(found)
    if not classes:
        raise UserError(
            f"data {path}: no images found; expected {path / 'CLASS' / 'IMAGE.png'}, "
            f"{path / 'train' / 'CLASS' / 'IMAGE.png'} or train-*.parquet files"
        )
    held_out = next((splits[test] for test in TEST_NAMES if test in splits), None)
    test = None if held_out is None else _split(held_out, _list(held_out), classes)
    return Source(name, classes, _split(root, found, classes), test)


def _splits(path: Path) -> dict[str, Path]:
    """Split name to folder; empty where folders are classes.

    Folders are splits where one is called "train" exactly, or where all are called like splits. One that holds images
    and no folders is a class like others (trains, planes, cars).
    """
    folders = _folders(path)
    named = [(name, folder) for folder in folders if (name := _split_of(folder))]
    exact = {folder.name: folder for folder in folders if folder.name in ("train", *TEST_NAMES)}
    train = next((folder for name, folder in named if name == "train"), None)
    if "train" not in exact and len(named) < len(folders):
        return {}
    if not all(map(_folders, folders) if train is None else [_folders(exact.get("train", train))]):
        return {}
    splits = dict(exact)
    for name, folder in named:
        if splits.setdefault(name, folder) != folder and name not in exact:
            raise UserError(f"data {path}: {splits[name].name} and {folder.name} are both the split {name}; keep one")
    return splits


def _split_of(folder: Path) -> str | None:
    """The split that a folder is called like, whole: Train, testing, val."""
    return split_named(folder.name) if folder.name.isascii() and folder.name.isalpha() else None


def _list(root: Path) -> dict[str, list[Path]]:
    """Class name to image files, both sorted."""
    PIL.Image.init()  # fills the table of suffixes
    suffixes = {suffix for suffix, kind in PIL.Image.EXTENSION.items() if kind in PIL.Image.OPEN}
    found = {}
    for folder in _folders(root):
        files = [
            Path(parent, file)
            for parent, _, names in os.walk(folder)
            for file in names
            if Path(file).suffix.lower() in suffixes and not _hidden(Path(parent, file).relative_to(folder))
        ]
        if files:
            found[folder.name] = sorted(files)
    return found


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _split(root: Path, found: dict[str, list[Path]], classes: tuple[str, ...]) -> FolderSplit:
    strange = [name for name in found if name not in classes]
    if strange:
        raise UserError(f"data {root}: class {strange[0]!r} has no training images; remove the folder or add some")
    if not found:
        raise UserError(f"data {root}: no images found; add class folders as in train, or remove the folder")
    files = [file for name in found for file in found[name]]
    return FolderSplit(files, [classes.index(name) for name in found for _ in found[name]])
