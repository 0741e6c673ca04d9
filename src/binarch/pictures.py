"""Picture files of any kind and shape to pixels, as training and prediction see them: numpy and Pillow, no torch."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from binarch.errors import UserError

#: Kinds to try first; each is known by its first bytes.
_COMMON = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class Picture:
    """One image before decoding: a file, the bytes of one, or pixels already in memory."""

    where: str
    """What to call it in an error: the file, or the row of the table."""
    content: Path | bytes | PIL.Image.Image | None


def planes(image: PIL.Image.Image, size: int) -> np.ndarray:
    """RGB of any shape to uint8, 3 x size x size: the largest centred square, scaled with antialiasing.

    As if the shorter side were scaled to ``size`` and the centre cropped, but without rounding in between.
    """
    if image.size != (size, size):
        image = PIL.ImageOps.fit(image, (size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def open_picture(picture: Picture) -> PIL.Image.Image:
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
