"""Pictures that are the same everywhere, without a file: the logits of them are part of a network's identity."""

import numpy as np


def probes(size: tuple[int, int, int]) -> np.ndarray:
    """Four images of ``size`` (height, width, channels), uint8, one batch: black, white, a ramp, and noise.

    Made with integers only: the ramp is (31 y + 17 x + 85 c) mod 256; the noise takes the third byte of Knuth's
    multiplicative hash (k + 1) 2654435761 mod 2^32 of each pixel's number k. No generator that numpy may change.
    """
    y, x, c = np.indices(size, dtype=np.uint32)
    number = np.arange(1, y.size + 1, dtype=np.uint64).reshape(size)
    ramp = (31 * y + 17 * x + 85 * c) % 256
    noise = (number * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(16) & np.uint64(255)
    return np.stack([np.zeros(size), np.full(size, 255), ramp, noise]).astype(np.uint8)
