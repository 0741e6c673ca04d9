import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from binarch.data import pixels
from binarch.data.pixels import decode
from binarch.errors import UserError
from binarch.pictures import Picture, to_rgb

GRADIENT = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes | PIL.Image.Image, size: int | None = 8) -> np.ndarray:
    return decode(lambda: [Picture("picture", content)], 1, size)[0].numpy()


def flat(mode: str, colour, **info) -> PIL.Image.Image:
    image = PIL.Image.new(mode, (8, 8), colour)
    image.info.update(info)
    return image


@pytest.mark.parametrize(
    "image, expected",
    [
        (flat("RGB", (10, 20, 30)), (10, 20, 30)),
        (flat("L", 77), (77, 77, 77)),
        (flat("1", 1), (255, 255, 255)),
        (flat("RGBA", (10, 20, 30, 255)), (10, 20, 30)),
        (flat("RGBA", (10, 20, 30, 0)), (255, 255, 255)),
        (flat("RGBA", (0, 100, 255, 51)), (204, 224, 255)),
        (flat("LA", (0, 51)), (204, 204, 204)),
        (flat("I;16", 257 * 9), (9, 9, 9)),
        (flat("I;16", 65535), (255, 255, 255)),
    ],
    ids=["RGB", "L", "1", "opaque", "clear", "RGBA", "LA", "I;16", "I;16-white"],
)
def test_modes_through_png(image: PIL.Image.Image, expected: tuple[int, int, int]) -> None:
    assert read(encoded(image)).reshape(3, -1).T.tolist() == [list(expected)] * 64


def test_palette_with_and_without_transparency() -> None:
    image = PIL.Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert read(encoded(image))[:, 3, 3].tolist() == [10, 20, 30]
    assert read(encoded(image, transparency=1))[:, 3, 3].tolist() == [255, 255, 255]
    assert read(encoded(image, transparency=0))[:, 3, 3].tolist() == [10, 20, 30]


def test_rgb_with_a_transparent_colour_is_laid_on_white() -> None:
    assert read(encoded(flat("RGB", (1, 2, 3)), transparency=(1, 2, 3)))[:, 0, 0].tolist() == [255, 255, 255]


def test_cmyk_is_converted() -> None:
    assert read(encoded(flat("CMYK", (0, 255, 255, 0)), "TIFF"))[:, 0, 0].tolist() == [255, 0, 0]


def test_integer_grey_is_sixteen_bits_or_refused() -> None:
    assert np.asarray(to_rgb(flat("I", 65535)))[0, 0].tolist() == [255] * 3
    assert np.asarray(to_rgb(flat("I", 257 * 4)))[0, 0].tolist() == [4] * 3
    with pytest.raises(UserError, match=r"picture: .*70000.*16 bits"):
        read(encoded(flat("I", 70000), "TIFF"))


def test_float_is_refused() -> None:
    with pytest.raises(UserError, match=r"picture: .*floats"):
        read(encoded(flat("F", 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_lossless_kinds_keep_every_pixel(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    grey = PIL.Image.fromarray(GRADIENT)
    assert np.array_equal(read(encoded(grey, kind, **options)), np.stack([GRADIENT] * 3))


def test_exif_orientation_is_respected() -> None:
    exif = PIL.Image.Exif()
    exif[PIL.Image.ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise
    turned = read(encoded(PIL.Image.fromarray(GRADIENT), exif=exif))
    assert np.array_equal(turned[0], np.rot90(GRADIENT, -1))


def test_long_images_are_cropped_in_the_centre() -> None:
    wide = np.zeros((8, 40), dtype=np.uint8)
    wide[:, 16:24] = GRADIENT
    assert np.array_equal(read(PIL.Image.fromarray(wide))[0], GRADIENT)
    assert np.array_equal(read(PIL.Image.fromarray(wide.T.copy()))[0], GRADIENT.T)


def test_shrinking_averages_instead_of_skipping() -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    inner = read(PIL.Image.fromarray(board), 8)[:, 2:-2, 2:-2]
    assert int(inner.min()) > 110
    assert int(inner.max()) < 145


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([(8, 8), (8, 8)], 8),
        ([(28, 28)] * 2, 28),
        ([(30, 30)] * 2, 32),
        ([(7, 7)] * 2, 8),
        ([(64, 64)] * 2, 64),
        ([(65, 65)] * 2, 32),
        ([(8, 8), (12, 12)], 32),
        ([(12, 8)] * 2, 32),
        ([(8, 8), (12, 8)], 32),
    ],
)
def test_natural_size(sizes: list[tuple[int, int]], expected: int) -> None:
    pictures = [Picture(str(k), PIL.Image.new("RGB", size, (k, 9, 9))) for k, size in enumerate(sizes)]
    made = decode(lambda: pictures, len(pictures), None)
    assert made.shape == (len(sizes), 3, expected, expected)
    assert made[:, 0, 0, 0].tolist() == list(range(len(sizes)))


@pytest.mark.parametrize("content", [b"", b"no image at all", encoded(PIL.Image.new("RGB", (64, 64)))[:60], None])
def test_broken_pictures_are_named_in_one_line(content: bytes | None) -> None:
    with pytest.raises(UserError, match=r"^row 7: .*remove or replace it$"):
        decode(lambda: [Picture("row 7", content)], 1, 8)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone"):
        decode(lambda: [Picture("gone", tmp_path / "gone.png")], 1, 8)


def test_too_much_memory_is_refused_before_it_is_taken() -> None:
    count = pixels.MEMORY_LIMIT // (3 * 64 * 64) + 1
    with pytest.raises(UserError, match="--image-size or --limit"):
        decode(list, count, 64)
