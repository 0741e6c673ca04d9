"""The verb ``predict``, with nothing that needs torch: a fresh installation answers within seconds."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from binarch.errors import UserError
from binarch.help import parsed
from binarch.networks import load
from binarch.pictures import Picture, open_picture, planes
from binarch.runtime.network import FEW


@dataclass(frozen=True)
class Predict:
    """Classify image files with a packed network."""

    network: tyro.conf.Positional[str]
    """A network that comes with binarch (see: binarch list networks), or a file that binarch pack wrote."""
    image: tyro.conf.Positional[tuple[Path, ...]]
    """Image files of any kind and shape; they are cropped and scaled as in training."""
    top: int = 5
    """How many classes to tell."""
    compile: bool = False
    """Compile the fast kernels first: once per machine, then an image takes milliseconds."""
    json: bool = False
    """Print the result as JSON."""


def predict(args: Predict, say: Callable[[str], None]) -> None:
    """Print the answers; ``say`` takes what is no result."""
    network = load(args.network)
    pixels = read_pictures(network.size, args.image)
    if args.compile or len(pixels) > FEW:
        network.warmup(say)
    answers = network.predict(pixels, args.top)
    if args.json:
        rows = [
            {"image": str(file), "top": [{"class": name, "probability": share} for name, share in best]}
            for file, best in zip(args.image, answers, strict=True)
        ]
        print(json.dumps({"predictions": rows}, indent=1))
    else:
        for file, best in zip(args.image, answers, strict=True):
            print(f"{file}: " + ", ".join(f"{name} {share:.1%}" for name, share in best))
    if not network.compiled:
        say(
            "Answered by the plain numpy reference (the same bits), as the fast kernels are not compiled yet: add "
            "--compile once, about 20 s, and every later image takes milliseconds."
        )


def read_pictures(size: tuple[int, int, int], files: Sequence[Path]) -> np.ndarray:
    """Image files as uint8, (N, height, width, 3), prepared as the images of a training are.

    Files of any kind, mode and shape pass through the same decoder as those of a data set: upright, RGB, the largest
    centred square, scaled to the network's ``size``. The first that cannot be used is a :class:`UserError`.
    """
    height, width, channels = size
    if channels != 3 or height != width:
        raise UserError(
            f"the network takes images of {height} x {width} x {channels}; files can be read for square colour images "
            "only: use binarch.load(...).predict(array)"
        )
    if not files:
        raise UserError("IMAGE: none is given; name one or more image files")
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}; give an image file")
    pictures = [planes(open_picture(Picture(str(file), file)), height) for file in files]
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 2, 3, 1))


def main(arguments: Sequence[str]) -> None:
    """Run the verb as ``binarch.cli`` does: exit 2 after the user's mistake, 130 after Ctrl-C."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    try:
        predict(parsed("predict", Predict, arguments), say)
    except UserError as error:
        say(f"binarch: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("binarch: interrupted.")
        sys.exit(130)
