"""A program's trained numbers as the float arrays that anyone would deploy: the ground of the float graphs.

The float graph computes what the program computes, with ordinary layers: weights of few bits become float32 weights
with their scale folded in, codes become the numbers that they stand for, and a batch norm behind a convolution is
folded into it. Sums are then rounded like any float convolution's; a program's are exact.
"""

from collections import Counter
from typing import final

import numpy as np

from binarch.runtime.ops import Affine, BitConv, Conv, Quantize, Shape, Window
from binarch.runtime.program import Program
from binarch.runtime.reference import unpack


@final
class Floats:
    """Arrays for the instructions of one program, by index."""

    def __init__(self, program: Program) -> None:
        self.program = program
        readers = Counter(x for op in program.ops for x in op.inputs)
        #: Batch norms that are folded into the convolution whose value they alone read.
        self.folded = {
            index
            for index, op in enumerate(program.ops)
            if isinstance(op, Affine) and isinstance(program.ops[op.x], Conv | BitConv) and readers[op.x] == 1
        }

    def numbers(self, offset: int, count: int) -> np.ndarray:
        """``count`` trained numbers."""
        return self.program.reals[offset : offset + count]

    def per_channel(self, offset: int, count: int) -> np.ndarray:
        """One number per channel, to be spread over (N, channels, H, W)."""
        return self.numbers(offset, count).reshape(1, -1, 1, 1)

    def convolution(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (out, in / groups, kh, kw) and bias (out) of a convolution, with everything folded in."""
        op = self.program.ops[index]
        assert isinstance(op, Conv | BitConv)
        shapes = self.program.inputs(index)
        weight = self._weights(op, shapes).astype(np.float64).reshape(op.out, -1)
        bias = np.zeros(op.out)
        if isinstance(op, BitConv):
            weight = weight * self.numbers(op.scale, op.out)[:, None]
        elif op.bias >= 0:
            bias = bias + self.numbers(op.bias, op.out)
        for after in self.folded:
            norm = self.program.ops[after]
            if isinstance(norm, Affine) and norm.x == index:
                scale, shift = (self.numbers(at, op.out).astype(np.float64) for at in (norm.scale, norm.shift))
                weight, bias = weight * scale[:, None], bias * scale + shift
        shape = (op.out, shapes[0].channels // op.groups, *op.window.kernel)
        return weight.astype(np.float32).reshape(shape), bias.astype(np.float32) if bias.any() else None

    def _weights(self, op: Conv | BitConv, shapes: list[Shape]) -> np.ndarray:
        count = op.weights(shapes)
        if op.weight_bits == 32:
            return self.numbers(op.weight, count)
        codes = unpack(self.program.bits, op.weight, count, op.weight_bits)
        if isinstance(op, BitConv):
            return np.asarray(op.weight_values)[codes]
        return self.numbers(op.levels, 1 << op.weight_bits)[codes]

    def comparison(self, index: int, values: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Thresholds (levels - 1, channels) of a quantizer and what its codes stand for (levels, channels).

        Where a channel's direction is turned, so are its values: y = values[k], k the last with x >= threshold k - 1.
        """
        op = self.program.ops[index]
        assert isinstance(op, Quantize)
        channels = self.program.shapes[index].channels
        thresholds = self.numbers(op.thresholds, channels * (op.levels - 1)).reshape(channels, -1).T
        chosen = np.repeat(np.array(values, np.float32)[:, None], channels, 1)
        if op.flip >= 0:
            turned = unpack(self.program.bits, op.flip, channels, 1) == 1
            chosen = np.where(turned, chosen[::-1], chosen)
        return thresholds, chosen


Borders = tuple[tuple[int, int], tuple[int, int]]


def borders(window: Window, size: tuple[int, int]) -> Borders:
    """Rows to add above and below a map of ``size``, columns to add left and right, for the window to slide unpadded.

    Negative numbers cut off. Both sides get the same wherever that yields the same output, as in ordinary layers.
    """
    found = []
    for axis in (0, 1):
        stride, first = window.stride[axis], window.origin[axis]
        reach = (window.size[axis] - 1) * stride + (window.kernel[axis] - 1) * window.dilation[axis]
        before, after = -first, reach + first + 1 - size[axis]
        # Up to stride - 1 more rows than the last window needs do no harm.
        if 0 <= before - after < stride and before >= 0:
            after = before
        found.append((before, 0 if -stride < after < 0 else after))
    return found[0], found[1]


def weights_of(program: Program) -> int:
    """How many weights and other trained numbers the float graph has."""
    few = sum(
        op.weights(program.inputs(index))
        for index, op in enumerate(program.ops)
        if isinstance(op, Conv | BitConv) and op.weight_bits < 32
    )
    return few + len(program.reals)


def random_images(program: Program, count: int, seed: int = 0) -> np.ndarray:
    """Noise: float32 (count, channels, height, width), multiples of 1 / 255 in 0..1."""
    image = program.image
    shape = (count, image.channels, image.height, image.width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8).astype(np.float32) / np.float32(255)
