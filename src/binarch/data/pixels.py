"""From pictures of any kind and shape to one uint8 tensor."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from binarch.data.source import Picture
from binarch.errors import UserError

#: Side of images whose files are too large, not square, or of several sizes.
DEFAULT_SIZE = 32
#: Square images up to this side keep their size.
LARGEST_NATURAL_SIZE = 64
#: Kinds to try first; each is known by its first bytes.
_COMMON = ("PNG", "JPEG", "WEBP")
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
    width, height = _open(picture).size
    return width if width == height <= LARGEST_NATURAL_SIZE else None


def _decode_at(pictures: Iterable[Picture], count: int, size: int) -> Tensor:
    pixels = _allocate(count, size)
    for index, picture in enumerate(pictures):
        pixels[index] = _planes(_open(picture), size)
    return torch.from_numpy(pixels)


def _decode_uniform(pictures: Iterable[Picture], count: int, side: int) -> Tensor | None:
    """As :func:`_decode_at`, but ``None`` at the first picture that is not ``side`` x ``side``."""
    size = -(-side // 4) * 4
    pixels = _allocate(count, size)
    for index, picture in enumerate(pictures):
        image = _open(picture)
        if image.size != (side, side):
            return None
        pixels[index] = _planes(image, size)
    return torch.from_numpy(pixels)


def _allocate(count: int, size: int) -> np.ndarray:
    needed = count * 3 * size * size
    if needed > MEMORY_LIMIT:
        raise UserError(
            f"data: {count} images of {size}x{size} pixels need {needed / 2**30:.1f} GiB of memory, more "
            f"than {MEMORY_LIMIT / 2**30:.1f}; lower --image-size or --limit"
        )
    return np.empty((count, 3, size, size), dtype=np.uint8)


def _planes(image: PIL.Image.Image, size: int) -> np.ndarray:
    """RGB of any shape to uint8, 3 x size x size: the largest centred square, scaled with antialiasing.

    As if the shorter side were scaled to ``size`` and the centre cropped, but without rounding in between.
    """
    if image.size != (size, size):
        image = PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def _open(picture: Picture) -> PIL.Image.Image:
    """Decode to RGB; whatever is wrong with the picture is one line that names it."""
    try:
        content = picture.content
        if content is None:
            raise ValueError("it is empty")
        if isinstance(content, PIL.Image.Image):
            return to_rgb(content)
        with _identify(content) as image:
            return to_rgb(image)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and others
        reason = "not an image" if isinstance(error, PIL.UnidentifiedImageError) else str(error).partition("\n")[0]
        raise UserError(
            f"{picture.where}: unusable image ({reason or type(error).__name__}); remove or replace it"
        ) from None


def _identify(content: Path | bytes) -> PIL.Image.Image:
    """Open without decoding; left alone, Pillow tries WebP last, after kinds that have no signature."""
    for formats in (_COMMON, None):
        try:
            return PIL.Image.open(content if isinstance(content, Path) else io.BytesIO(content), formats=formats)
        except PIL.UnidentifiedImageError:
            if formats is None:
                raise
    raise AssertionError("unreachable")


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turn an image of any mode upright and into 8-bit RGB.

    Transparency is composited on white. Integer grey (modes I;16 and I) is taken as 16 bits: value / 257, so
    that 65535 becomes 255. Mode F has no known range and is a ``ValueError``.
    """
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floats, of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its values {values.min()}..{values.max()} exceed 16 bits; save it with 8 or 16 bits")
        return PIL.Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(white, colours).convert("RGB")
    return image.convert("RGB")
