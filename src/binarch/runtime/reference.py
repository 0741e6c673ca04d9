"""Programs run with plain numpy: slow, short, obviously right. The truth that the fast kernels are tested against."""

from functools import singledispatch
from math import prod
from typing import Any

import numpy as np

from binarch.runtime.ops import (
    Add,
    Affine,
    BitConv,
    Clip,
    Concat,
    Conv,
    Flatten,
    Image,
    Mean,
    Op,
    Pool,
    PRelu,
    Quantize,
    Shuffle,
    Window,
    Zeros,
)  # fmt: skip
from binarch.runtime.program import Program


def run(program: Program, images: np.ndarray) -> np.ndarray:
    """Logits (N, classes) of images (N, channels, height, width), float32 in 0..1."""
    return trace(program, images)[-1].reshape(len(images), -1)


def trace(program: Program, images: np.ndarray) -> list[np.ndarray]:
    """Every value of the program, each (N, channels, height, width): float32, or int64 codes."""
    values: list[np.ndarray] = []
    for op in program.ops:
        inputs = [images] if isinstance(op, Image) else [values[x] for x in op.inputs]
        if isinstance(op, Zeros):
            inputs = [images]
        values.append(apply(op, program, *inputs))
    return values


def numbers(program: Program, offset: int, count: int) -> np.ndarray:
    """``count`` trained numbers, shaped to spread over (N, count, H, W)."""
    return program.reals[offset : offset + count].reshape(1, -1, 1, 1)


def unpack(bits: np.ndarray, offset: int, count: int, width: int) -> np.ndarray:
    """``count`` codes of ``width`` bits (1 or 2), lowest bit first."""
    flat = np.unpackbits(bits[offset : offset + -(-count * width // 8)], bitorder="little")[: count * width]
    return flat.reshape(count, width).astype(np.int64) @ (1 << np.arange(width))


def windows(x: np.ndarray, window: Window, outside: Any) -> list[np.ndarray]:
    """For each tap the inputs that it meets, (N, C, *window.size); ``outside`` where there is none."""
    taps = window.taps()
    starts, ends = (
        taps[0],
        tuple((n - 1) * s + last + 1 for n, s, last in zip(window.size, window.stride, taps[-1], strict=True)),
    )
    front = [max(0, -start) for start in starts]
    margins = [(f, max(0, end - length)) for f, end, length in zip(front, ends, x.shape[2:], strict=True)]
    padded = np.pad(x, ((0, 0), (0, 0), *margins), constant_values=outside)
    (h, w), (sy, sx) = window.size, window.stride
    corners = [(dy + front[0], dx + front[1]) for dy, dx in taps]
    return [padded[:, :, y : y + (h - 1) * sy + 1 : sy, x : x + (w - 1) * sx + 1 : sx] for y, x in corners]


def convolve(x: np.ndarray, weight: np.ndarray, window: Window, groups: int) -> np.ndarray:
    """Sum of weight (out, in / groups, taps) times x, zeros outside: one product of matrices per image and group."""
    n = len(x)
    taps = np.stack(windows(x, window, 0), 2).reshape(n, groups, -1, prod(window.size))
    return (weight.reshape(groups, len(weight) // groups, -1) @ taps).reshape(n, -1, *window.size)


@singledispatch
def apply(op: Op, program: Program, *inputs: np.ndarray) -> np.ndarray:
    """The value of one instruction."""
    raise NotImplementedError(op.name)


@apply.register
def _(op: Image, program: Program, images: np.ndarray) -> np.ndarray:
    return (images - numbers(program, op.mean, op.channels)) / numbers(program, op.std, op.channels)


@apply.register
def _(op: Conv, program: Program, x: np.ndarray) -> np.ndarray:
    per_filter = x.shape[1] // op.groups, op.window.kernel[0] * op.window.kernel[1]
    count = op.out * per_filter[0] * per_filter[1]
    if op.weight_bits == 32:
        weight = program.reals[op.weight : op.weight + count]
    else:
        codes = unpack(program.bits, op.weight, count, op.weight_bits)
        weight = program.reals[op.levels : op.levels + (1 << op.weight_bits)][codes]
    y = convolve(x.astype(np.float64), weight.astype(np.float64).reshape(op.out, *per_filter), op.window, op.groups)
    if op.bias >= 0:
        y = y + numbers(program, op.bias, op.out).astype(np.float64)
    return y.astype(np.float32)


@apply.register
def _(op: Quantize, program: Program, x: np.ndarray) -> np.ndarray:
    channels, count = x.shape[1], op.levels - 1
    thresholds = program.reals[op.thresholds : op.thresholds + channels * count].reshape(channels, count)
    codes = (x[:, :, None] >= thresholds[None, :, :, None, None]).sum(2)
    if op.flip < 0:
        return codes
    flipped = unpack(program.bits, op.flip, channels, 1).reshape(1, -1, 1, 1) == 1
    return np.where(flipped, count - codes, codes)


@apply.register
def _(op: BitConv, program: Program, x: np.ndarray) -> np.ndarray:
    return integers(op, program, x).astype(np.float32) * numbers(program, op.scale, op.out)


def integers(op: BitConv, program: Program, x: np.ndarray) -> np.ndarray:
    """The exact sums of a :class:`BitConv`, before the scale."""
    per_filter = x.shape[1] // op.groups, op.window.kernel[0] * op.window.kernel[1]
    codes = unpack(program.bits, op.weight, op.out * per_filter[0] * per_filter[1], op.weight_bits)
    # Sums stay below 2^15, so float32 holds each of them exactly, in any order; and matrices of floats are quick.
    weight = np.asarray(op.weight_values, np.float32)[codes].reshape(op.out, *per_filter)
    return convolve(np.asarray(op.values, np.float32)[x], weight, op.window, op.groups).astype(np.int64)


@apply.register
def _(op: Affine, program: Program, x: np.ndarray) -> np.ndarray:
    scale, shift = (numbers(program, at, x.shape[1]).astype(np.float64) for at in (op.scale, op.shift))
    return (x.astype(np.float64) * scale + shift).astype(np.float32)


@apply.register
def _(op: PRelu, program: Program, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, x * numbers(program, op.slope, x.shape[1]))


@apply.register
def _(op: Clip, program: Program, x: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(x, np.float32(op.low)), np.float32(op.high))


@apply.register
def _(op: Shuffle, program: Program, x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, op.groups, c // op.groups, h, w).swapaxes(1, 2).reshape(n, c, h, w)


@apply.register
def _(op: Add, program: Program, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x + y


@apply.register
def _(op: Concat, program: Program, *xs: np.ndarray) -> np.ndarray:
    return np.concatenate(xs, 1)


@apply.register
def _(op: Pool, program: Program, x: np.ndarray) -> np.ndarray:
    if op.kind == "max":
        return np.max(windows(x, op.window, -np.inf), 0)
    total = np.zeros((*x.shape[:2], *op.window.size), np.float32)
    for tap in windows(x, op.window, 0):
        total = total + tap
    if op.kind == "mean_padded":
        return total / np.float32(op.window.kernel[0] * op.window.kernel[1])
    return total / np.sum(windows(np.ones_like(x[:1, :1]), op.window, 0), 0)


@apply.register
def _(op: Mean, program: Program, x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64).mean((2, 3), keepdims=True).astype(np.float32)


@apply.register
def _(op: Flatten, program: Program, x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1, 1, 1)


@apply.register
def _(op: Zeros, program: Program, images: np.ndarray) -> np.ndarray:
    return np.zeros((len(images), op.channels, op.height, op.width), np.float32)
