"""Learning rates over time."""

import math


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1): Loshchilov and Hutter, 2017, no restarts."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
