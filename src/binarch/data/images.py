"""Images in memory: one tensor of pixels, one of labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

#: One number per colour channel: red, green, blue.
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Images:
    """``pixels``: uint8, N x 3 x S x S. ``labels``: int64, N, the index of each image's class."""

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.dim() != 4 or self.pixels.shape[1] != 3:
            raise ValueError(f"pixels: {self.pixels.dtype} {tuple(self.pixels.shape)} is not uint8 N x 3 x S x S")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(f"labels: {self.labels.dtype} {tuple(self.labels.shape)} is not int64, one per image")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "Images":
        """The images at ``indices`` (int64), in that order; a copy."""
        return Images(self.pixels[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> "Images":
        """The images on ``device``."""
        return Images(self.pixels.to(device), self.labels.to(device))
