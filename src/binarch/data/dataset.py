"""A data set: training images at hand, test images behind a door, statistics of the training images."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from binarch.data.images import Channels, Images
from binarch.errors import UserError


@final
class Dataset:
    """What :func:`binarch.data.load` returns.

    ``train`` is read at once. The test images are read only when :meth:`test` is called, so that a search,
    which must not look at them, does not even decode them. ``mean`` and ``std`` are per channel, with pixel
    values taken from 0 to 1.
    """

    def __init__(
        self,
        name: str,
        classes: tuple[str, ...],
        train: Images,
        mean: Channels,
        std: Channels,
        read_test: Callable[[], Images] | None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.train = train
        self.mean = mean
        self.std = std
        self._read_test = read_test
        self._test: Images | None = None

    @property
    def image_size(self) -> int:
        """Side S of the square images, in pixels."""
        return self.train.pixels.shape[-1]

    def identity(self) -> dict[str, Any]:
        """What tells this set from another: a run is continued on the same images only."""
        return {"images": len(self.train), "image_size": self.image_size, "classes": list(self.classes)}

    @property
    def has_test(self) -> bool:
        """Whether the source has a test split (or, for want of one, a validation split)."""
        return self._read_test is not None

    def test(self) -> Images:
        """The test images, read on the first call and kept; :class:`UserError` if the source has none."""
        if self._read_test is None:
            raise UserError(
                f"data {self.name!r}: there is no test split; add a test folder (DIR/train/CLASS, "
                "DIR/test/CLASS) or test-*.parquet files"
            )
        if self._test is None:
            self._test = self._read_test()
        return self._test


def statistics(pixels: Tensor) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel of ``pixels`` (uint8, N x 3 x S x S), in units of 0..1.

    Exact: from the histogram of the 256 values, mean = sum(v h(v)) / n and var = sum((v - mean)^2 h(v)) / n.
    A channel that never varies would have std 0 and divide by it; std is at least one grey step, 1/255.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(3):
        histogram = torch.bincount(pixels[:, channel].flatten(), minlength=256).double().cpu()
        weights = histogram / histogram.sum()
        mean = (values * weights).sum()
        means.append(mean.item())
        deviations.append(max(((values - mean).square() * weights).sum().sqrt().item(), 1 / 255))
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])
