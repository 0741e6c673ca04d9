"""Random views of training images, drawn for a whole batch at once."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from binarch.data.images import Channels
from binarch.errors import UserError, choose

#: Mirroring, left to right: never; each image with chance 1/2; every image in every second epoch.
Flip = Literal["none", "random", "alternating"]
#: What a crop finds beyond the border: black, or the image again, mirrored at its outermost pixels.
CropFill = Literal["black", "reflect"]


def normalise(pixels: Tensor, mean: Channels, std: Channels) -> Tensor:
    """``(pixels / 255 - mean) / std`` per channel: uint8 N x 3 x H x W to float32 of the same shape."""
    scaled = pixels.to(torch.float32).div_(255)
    return scaled.sub_(_per_channel(mean, scaled)).div_(_per_channel(std, scaled))


def _reflected(position: Tensor, size: int) -> Tensor:
    """The pixel of an axis, 0..size - 1, that a position beyond its ends shows; mirrored as often as needed."""
    period = max(2 * (size - 1), 1)
    return (position + size - 1).remainder(period).sub(size - 1).abs()


def _per_channel(values: Channels, like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Augment:
    """Random crop, horizontal flip and cutout, each drawn anew for every image.

    Crop: the image is padded with ``crop_padding`` pixels on all sides, and a window of the original size is cut out at
    one of (2 crop_padding + 1)^2 places. The padding is black, or (``crop_fill="reflect"``, as in airbench: Jordan,
    2024) the image itself, mirrored at its outermost pixels, which are not repeated: c b | a b c | b a. Flip: mirrored,
    left to right, with chance 1/2 (``random``), or where the caller says so (``alternating``). Cutout (DeVries &
    Taylor, 2017): a square of side ``cutout`` is set to 0, the mean, after normalisation; its centre is uniform over
    the image and its part beyond the border is lost. Zero (or ``none``) turns a step off.
    """

    crop_padding: int = 4
    """Pixels added on each side before the random crop; 0 for no crop."""
    flip: Flip = "random"
    """Which images are mirrored left to right."""
    cutout: int = 0
    """Side of the erased square, in pixels; 0 for none."""
    crop_fill: CropFill = "black"
    """What the added pixels show."""

    def __post_init__(self) -> None:
        choose("flip", self.flip, get_args(Flip))
        choose("crop_fill", self.crop_fill, get_args(CropFill))
        for field in ("crop_padding", "cutout"):
            if getattr(self, field) < 0:
                raise UserError(f"{field}: {getattr(self, field)} is negative; give 0 or more pixels")

    def __call__(
        self, pixels: Tensor, mean: Channels, std: Channels, generator: torch.Generator, turn: Tensor | None = None
    ) -> Tensor:
        """Turn uint8 N x 3 x H x W into normalised float32 N x 3 x H x W.

        ``generator`` must live on the device of ``pixels``. All five numbers per image are always drawn, so
        turning one step off leaves the others as they were. ``turn``, N booleans, says whose turn it is to be mirrored
        where flips alternate.
        """
        height, width = pixels.shape[-2:]
        top = self._draw(2 * self.crop_padding + 1, pixels, generator)
        left = self._draw(2 * self.crop_padding + 1, pixels, generator)
        mirrored = self._draw(2, pixels, generator) == 1
        if self.flip == "alternating":
            if turn is None:
                raise ValueError("alternating flips need to know whose turn it is")
            mirrored = turn
        centre_y = self._draw(height, pixels, generator)
        centre_x = self._draw(width, pixels, generator)

        view = normalise(self._crop(pixels, top, left, mirrored), mean, std)
        if self.cutout:
            erased = self._covered(centre_y, height)[:, :, None] & self._covered(centre_x, width)[:, None, :]
            view.masked_fill_(erased[:, None], 0.0)
        return view

    @staticmethod
    def _draw(choices: int, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """One number in 0..choices - 1 per image."""
        return torch.randint(choices, (len(pixels),), generator=generator, device=pixels.device)

    def _crop(self, pixels: Tensor, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
        """Cut windows at (top, left) and mirror some of them, in one indexing operation."""
        if not self.crop_padding and self.flip == "none":
            return pixels
        count, channels, height, width = pixels.shape
        rows = top[:, None] + torch.arange(height, device=pixels.device)
        columns = torch.arange(width, device=pixels.device).expand(count, width)
        if self.flip != "none":  # reading a window's columns from right to left mirrors it
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        columns = left[:, None] + columns
        if self.crop_fill == "reflect":
            rows, columns = (
                _reflected(at - self.crop_padding, size) for at, size in ((rows, height), (columns, width))
            )
            padded = pixels
        else:
            padded = functional.pad(pixels, (self.crop_padding,) * 4)
        image = torch.arange(count, device=pixels.device)[:, None, None, None]
        channel = torch.arange(channels, device=pixels.device)[None, :, None, None]
        return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]

    def _covered(self, centre: Tensor, size: int) -> Tensor:
        """N x size: whether a position of one axis is one of the ``cutout`` that surround ``centre``."""
        start = (centre - self.cutout // 2)[:, None]
        position = torch.arange(size, device=centre.device)
        return (position >= start) & (position < start + self.cutout)
