"""What every source of images offers: labels at once, pictures one by one."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from binarch.pictures import Picture

#: Names of the split that is tested on, best first: validation images stand in for missing test images.
TEST_NAMES = ("test", "validation", "valid", "val")
_SPLIT = re.compile(rf"(train|{'|'.join(TEST_NAMES)})(ing)?(?![a-z])")


def split_named(word: str) -> str | None:
    """The split that ``word`` begins with (Train, testing, val-2): its name here, or None."""
    match = _SPLIT.match(word.lower())
    return match and match.group(1)


class Split(ABC):
    """The images of one split, in a fixed order."""

    @property
    @abstractmethod
    def labels(self) -> Tensor:
        """The class of each image: int64, N."""

    @abstractmethod
    def pictures(self, wanted: Tensor) -> Iterator[Picture]:
        """The pictures at the sorted indices ``wanted``, in order."""


@dataclass(frozen=True)
class Source:
    """A set of images that has been found but not decoded."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split | None
