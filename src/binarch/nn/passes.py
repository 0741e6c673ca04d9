"""The compiled loops of ``fused``: each is one pass over tables with a row per pixel and a column per channel.

Tables hold float32, or the bits of bfloat16 (``halves``); what is summed or known per channel is float32. Loops take
the rows, or blocks of :data:`BLOCK` rows, from ``first`` to before ``last``, so that threads can share them. Sums are
left per block: no number depends on how many threads there are.
"""

from typing import Any

import numpy as np
from numba import njit

from binarch.nn.halves import real, stored

#: Digest of halves.py, whose code is compiled in here: Numba's cache looks at this file only (a test compares).
VECTOR_CODE = "ad925a6d7fa0913b"
#: Rows whose sum is one number of float32.
BLOCK = 512


@njit(cache=True, inline="always")
def _window(y: Any, polynomial: bool) -> Any:
    """The slope that stands for that of a sign."""
    away = abs(y)
    if polynomial:
        return max(np.float32(2) - np.float32(2) * away, np.float32(0))
    return np.float32(1) if away < np.float32(1) else np.float32(0)


@njit(cache=True, nogil=True)
def moments(x: Any, sums: Any, squares: Any, first: int, last: int) -> None:
    """Sums of x and of its square, less the first row each, lest large means cancel."""
    rows, c = x.shape
    origin = x[0]
    for block in range(first, last):
        one, two = sums[block], squares[block]
        one[:] = 0
        two[:] = 0
        for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            line = x[row]
            for k in range(c):
                off = real(line[k]) - real(origin[k])
                one[k] += off
                two[k] += off * off


@njit(cache=True, nogil=True)
def signs(x: Any, scale: Any, shift: Any, found: Any, first: int, last: int) -> None:
    """sign(scale x + shift)."""
    for row in range(first, last):
        line, out = x[row], found[row]
        for k in range(len(line)):
            out[k] = stored(out, np.float32(1) if real(line[k]) * scale[k] + shift[k] >= 0 else np.float32(-1))


@njit(cache=True, nogil=True)
def window_sums(
    x: Any, grad: Any, scale: Any, shift: Any, mean: Any, polynomial: bool, sums: Any, products: Any, first: int,
    last: int,
) -> None:  # fmt: skip
    """Sums of the gradient behind the norm, and of its products with x - mean."""
    rows, c = x.shape
    for block in range(first, last):
        one, two = sums[block], products[block]
        one[:] = 0
        two[:] = 0
        for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            line, g = x[row], grad[row]
            for k in range(c):
                value = real(line[k])
                through = real(g[k]) * _window(value * scale[k] + shift[k], polynomial)
                one[k] += through
                two[k] += through * (value - mean[k])


@njit(cache=True, nogil=True)
def window_back(
    x: Any, grad: Any, scale: Any, shift: Any, mean: Any, offset: Any, tilt: Any, polynomial: bool, found: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """The gradient before norm and sign."""
    for row in range(first, last):
        line, g, out = x[row], grad[row], found[row]
        for k in range(len(line)):
            value = real(line[k])
            through = real(g[k]) * _window(value * scale[k] + shift[k], polynomial)
            out[k] = stored(out, scale[k] * (through - offset[k] - (value - mean[k]) * tilt[k]))


@njit(cache=True, nogil=True)
def biased_back(
    x: Any, grad: Any, bias: Any, polynomial: bool, found: Any, sums: Any, first: int, last: int
) -> None:  # fmt: skip
    """The gradient before bias and sign, and its sums."""
    rows, c = x.shape
    for block in range(first, last):
        one = sums[block]
        one[:] = 0
        for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            line, g, out = x[row], grad[row], found[row]
            for k in range(c):
                through = real(g[k]) * _window(real(line[k]) + bias[k], polynomial)
                out[k] = stored(out, through)
                one[k] += through


@njit(cache=True, nogil=True)
def prelu_shuffle(x: Any, slope: Any, order: Any, found: Any, first: int, last: int) -> None:
    """PReLU; output k is the channel order[k] of it."""
    c = x.shape[1]
    active = np.empty(c, np.float32)
    for row in range(first, last):
        line, out = x[row], found[row]
        for k in range(c):
            value = real(line[k])
            active[k] = value * (np.float32(1) if value > 0 else slope[k])
        for k in range(c):
            out[k] = stored(out, active[order[k]])


@njit(cache=True, nogil=True)
def prelu_shuffle_back(
    x: Any, grad: Any, slope: Any, places: Any, found: Any, sums: Any, first: int, last: int
) -> None:  # fmt: skip
    """The gradient before PReLU and shuffle, and the sums of the slopes' gradients."""
    rows, c = x.shape
    back = np.empty(c, np.float32)
    for block in range(first, last):
        one = sums[block]
        one[:] = 0
        for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            line, g, out = x[row], grad[row], found[row]
            for k in range(c):
                back[k] = real(g[places[k]])
            for k in range(c):
                value = real(line[k])
                out[k] = stored(out, back[k] * (np.float32(1) if value > 0 else slope[k]))
                one[k] += back[k] * min(value, np.float32(0))


@njit(cache=True, nogil=True)
def sum_prelu(x: Any, shortcut: Any, scale: Any, shift: Any, slope: Any, found: Any, first: int, last: int) -> None:
    """PReLU(scale x + shift + shortcut)."""
    for row in range(first, last):
        line, beside, out = x[row], shortcut[row], found[row]
        for k in range(len(line)):
            value = real(line[k]) * scale[k] + shift[k] + real(beside[k])
            out[k] = stored(out, value * (np.float32(1) if value > 0 else slope[k]))


@njit(cache=True, nogil=True)
def sum_prelu_back(
    x: Any, shortcut: Any, grad: Any, scale: Any, shift: Any, mean: Any, slope: Any, through: Any, sums: Any,
    products: Any, slopes: Any, first: int, last: int,
) -> None:  # fmt: skip
    """The gradient before PReLU; its sums, those of its products with x - mean, and of the slopes' gradients."""
    rows, c = x.shape
    for block in range(first, last):
        one, two, three = sums[block], products[block], slopes[block]
        one[:] = 0
        two[:] = 0
        three[:] = 0
        for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
            line, beside, g, out = x[row], shortcut[row], grad[row], through[row]
            for k in range(c):
                count, given = real(line[k]), real(g[k])
                value = count * scale[k] + shift[k] + real(beside[k])
                passed = given * (np.float32(1) if value > 0 else slope[k])
                out[k] = stored(out, passed)
                one[k] += passed
                two[k] += passed * (count - mean[k])
                three[k] += given * min(value, np.float32(0))


@njit(cache=True, nogil=True)
def norm_back(
    x: Any, grad: Any, scale: Any, mean: Any, offset: Any, tilt: Any, found: Any, first: int, last: int
) -> None:  # fmt: skip
    """The gradient before a norm."""
    for row in range(first, last):
        line, g, out = x[row], grad[row], found[row]
        for k in range(len(line)):
            out[k] = stored(out, scale[k] * (real(g[k]) - offset[k] - (real(line[k]) - mean[k]) * tilt[k]))
