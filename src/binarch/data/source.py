"""What every source of images offers: labels at once, pictures one by one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from binarch.pictures import Picture

#: Names of the split that is tested on, best first: validation images stand in for missing test images.
TEST_NAMES = ("test", "validation", "valid", "val")


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
    """A set of images that has been found but not decoded; ``test`` is called only when it is asked for."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Callable[[], Split] | None
