"""Image files to answers of a packed network, prepared as the images of the training were."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from binarch.data.pixels import decode
from binarch.data.source import Picture
from binarch.errors import UserError
from binarch.runtime import Network


def predict_files(network: Network, files: Sequence[Path], top: int = 5) -> list[list[tuple[str, float]]]:
    """The ``top`` classes of each image file with their probabilities, the best first.

    Files of any kind, mode and shape pass through the same decoder as those of a data set: upright, RGB, the largest
    centred square, scaled to the network's size. The first that cannot be used is a :class:`UserError`.
    """
    height, width, channels = network.size
    if channels != 3 or height != width:
        raise UserError(
            f"the network takes images of {height} x {width} x {channels}; files can be read for square colour images "
            "only: use binarch.runtime.load(...).predict(array)"
        )
    if not files:
        raise UserError("IMAGE: none is given; name one or more image files")
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}; give an image file")
    pixels = decode(lambda: [Picture(str(file), file) for file in files], len(files), height)
    return network.predict(np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()), top)
