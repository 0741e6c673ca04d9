"""The small quadratic programme behind the heights of a drawing."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_STEPS: Final = 1500


def least_energy(curvature: Array, slope: Array, distances: dict[tuple[int, int], float]) -> Array:
    """The z of least z'Qz/2 + c'z with z_below - z_above >= distance for every pair.

    Solved in the dual: one multiplier >= 0 per distance, by accelerated projected gradient steps.
    """
    inverse = np.linalg.inv(curvature)
    free = -inverse @ slope
    if not distances:
        return free
    rows = np.zeros((len(distances), len(slope)))
    for row, (above, below) in zip(rows, distances, strict=True):
        row[above] -= 1.0
        row[below] += 1.0
    reach = inverse @ rows.T
    dual = rows @ reach
    lack = np.array(list(distances.values())) - rows @ free
    step = 1.0 / float(np.linalg.eigvalsh(dual)[-1])
    multipliers = ahead = np.zeros(len(lack))
    momentum = 1.0
    for _ in range(_STEPS):
        last = multipliers
        multipliers = np.maximum(0.0, ahead + step * (lack - dual @ ahead))
        moved = multipliers - last
        if float((ahead - multipliers) @ moved) > 0:  # overshot: start the acceleration anew
            momentum = 1.0
        following = (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
        ahead = multipliers + (momentum - 1.0) / following * moved
        momentum = following
        if float(np.abs(moved).max()) < 1e-7:
            break
    levels: Array = free + reach @ multipliers
    return levels
