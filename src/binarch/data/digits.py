"""The handwritten digits that come inside scikit-learn: always there, no download."""

from collections.abc import Iterator
from typing import final

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from binarch.data.partition import split
from binarch.data.source import Source, Split
from binarch.pictures import Picture

_TEST_IMAGES = 360


@final
class DigitsSplit(Split):
    """8 x 8 grey images with values 0..16, stretched to 0..255."""

    def __init__(self, grey: np.ndarray, labels: Tensor) -> None:
        self._pixels = np.rint(grey * (255 / 16)).astype(np.uint8)
        self._labels = labels

    @property
    def labels(self) -> Tensor:
        """The digit of each image."""
        return self._labels

    def pictures(self, wanted: Tensor) -> Iterator[Picture]:
        """The images, already decoded."""
        for index in wanted.tolist():
            yield Picture(f"digits, image {index}", PIL.Image.fromarray(self._pixels[index]))


def open_digits() -> Source:
    """1797 images in 10 classes: 1437 to train on, 360 to test on, always the same ones."""
    from sklearn.datasets import load_digits  # slow to import, and only wanted here

    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    parts = [
        DigitsSplit(bunch.images[part], labels[part]) for part in split(labels, _TEST_IMAGES / len(labels), seed=0)
    ]
    return Source("digits", tuple(str(digit) for digit in range(10)), *parts)
