"""From pictures of any kind and shape to one uint8 tensor."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from binarch.errors import UserError
from binarch.pictures import Picture, open_picture, planes

#: Side of images whose files are too large, not square, or of several sizes.
DEFAULT_SIZE = 32
#: Square images up to this side keep their size.
LARGEST_NATURAL_SIZE = 64
#: Most bytes of decoded pixels; they are kept in memory as one tensor.
MEMORY_LIMIT = 8 * 2**30


def decode(pictures: Callable[[], Iterable[Picture]], count: int, size: int | None) -> Tensor:
    """Decode ``count`` pictures to uint8, N x 3 x S x S.

    S is ``size`` if that is given. Otherwise, if all pictures are squares of one side up to
    ``LARGEST_NATURAL_SIZE``, S is that side, rounded up to a multiple of 4 (a network halves the resolution
    twice); else S is ``DEFAULT_SIZE``. ``pictures`` is called again when the guess from the first one fails.
    """
    if size is not None:
        return _decode_at(pictures(), count, size)
    side = _natural_side(next(iter(pictures())))
    natural = None if side is None else _decode_uniform(pictures(), count, side)
    return _decode_at(pictures(), count, DEFAULT_SIZE) if natural is None else natural


def _natural_side(picture: Picture) -> int | None:
    width, height = open_picture(picture).size
    return width if width == height <= LARGEST_NATURAL_SIZE else None


def _decode_at(pictures: Iterable[Picture], count: int, size: int) -> Tensor:
    pixels = _allocate(count, size)
    for index, picture in enumerate(pictures):
        pixels[index] = planes(open_picture(picture), size)
    return torch.from_numpy(pixels)


def _decode_uniform(pictures: Iterable[Picture], count: int, side: int) -> Tensor | None:
    """As :func:`_decode_at`, but ``None`` at the first picture that is not ``side`` x ``side``."""
    size = -(-side // 4) * 4
    pixels = _allocate(count, size)
    for index, picture in enumerate(pictures):
        image = open_picture(picture)
        if image.size != (side, side):
            return None
        pixels[index] = planes(image, size)
    return torch.from_numpy(pixels)


def _allocate(count: int, size: int) -> np.ndarray:
    needed = count * 3 * size * size
    if needed > MEMORY_LIMIT:
        raise UserError(
            f"data: {count} images of {size}x{size} pixels need {needed / 2**30:.1f} GiB of memory, more "
            f"than {MEMORY_LIMIT / 2**30:.1f}; lower --image-size or --limit"
        )
    return np.empty((count, 3, size, size), dtype=np.uint8)
