"""How values lie in memory while a program runs: row lengths, places of maps, frames of codes."""

from dataclasses import dataclass
from typing import final

from binarch.runtime.lookup import LANES
from binarch.runtime.ops import BitConv, Shape
from binarch.runtime.program import Program


def up(n: int) -> int:
    """``n`` rounded up to whole vectors."""
    return -(-n // LANES) * LANES


@final
@dataclass(frozen=True)
class Place:
    """Where a real map lies: channel c, row i, column j at ``offset + c * pitch + i * row + j``."""

    offset: int
    pitch: int
    row: int


@final
@dataclass(frozen=True)
class Frame:
    """How codes lie for a convolution: ``size`` bytes per phase and quad, the first ``front`` of them padding."""

    per_quad: int
    """Channels that share a nibble."""
    groups: int
    quads: int
    """Nibbles of a pixel, per group."""
    stride: tuple[int, int]
    phases: tuple[tuple[int, int], ...]
    front: int
    size: int
    row: int


@final
class Arena:
    """Hands out stretches of an arena and takes them back."""

    def __init__(self) -> None:
        self.length = 0
        self._free: list[tuple[int, int]] = []

    def take(self, length: int) -> int:
        """The first free stretch that is long enough."""
        for i, (start, free) in enumerate(self._free):
            if free >= length:
                self._free[i : i + 1] = [(start + length, free - length)] if free > length else []
                return start
        start = self.length
        if self._free and sum(self._free[-1]) == self.length:
            start = self._free.pop()[0]
        self.length = start + length
        return start

    def give(self, start: int, length: int) -> None:
        """Take a stretch back, joining neighbours."""
        merged: list[tuple[int, int]] = []
        for stretch in sorted([*self._free, (start, length)]):
            if merged and sum(merged[-1]) == stretch[0]:
                merged[-1] = (merged[-1][0], merged[-1][1] + stretch[1])
            else:
                merged.append(stretch)
        self._free = merged


def phase_of(offset: int, stride: int) -> tuple[int, int]:
    """A tap's offset as (phase, offset within the phase)."""
    return offset % stride, offset // stride


def row_lengths(program: Program) -> dict[int, int]:
    """S for every width: the width plus what convolutions on such maps reach over the edge, one side at a time.

    Padding right of a row serves as padding left of the next one. A convolution's input phases and output share S.
    """
    parent: dict[int, int] = {}

    def find(width: int) -> int:
        parent.setdefault(width, width)
        while parent[width] != width:
            width = parent[width]
        return width

    needs: list[tuple[int, int]] = []
    for index, op in enumerate(program.ops):
        shape = program.shapes[index]
        needs.append((shape.width, shape.width))
        if isinstance(op, BitConv):
            window, x = op.window, program.inputs(index)[0]
            stride = window.stride[1]
            for _, dx in window.taps()[: window.kernel[1]]:
                phase, offset = phase_of(dx, stride)
                width = max(0, -(-(x.width - phase) // stride))
                needs.append((shape.width, max(width + max(0, -offset), shape.width + max(0, offset))))
            if stride == 1:
                parent[find(x.width)] = find(shape.width)
    lengths: dict[int, int] = {}
    for width, need in needs:
        lengths[find(width)] = max(lengths.get(find(width), 0), need)
    return {width: lengths[find(width)] for width, _ in needs}


def code_bits(levels: int) -> int:
    """Bits of a code within a nibble: 1, 2 or 4."""
    return 1 if levels == 2 else 2 if levels <= 4 else 4


def frame_of(op: BitConv, source: Shape, shape: Shape, row: int) -> Frame:
    """The layout of codes that a convolution from ``source`` to ``shape`` reads, in rows of ``row``."""
    stride = op.window.stride
    split = [tuple(phase_of(d, s) for d, s in zip(tap, stride, strict=True)) for tap in op.window.taps()]
    reach = [oy * row + ox for (_, oy), (_, ox) in split]
    tall = max(-(-source.height // stride[0]), shape.height)
    front = max(0, -min(reach))
    size = up(front + up(tall * row) + max(0, max(reach)) + LANES)
    phases = tuple(sorted({(py, px) for (py, _), (px, _) in split}))
    # As many channels share a nibble as its four bits, a table's bytes and an id's bits allow.
    largest = max(map(abs, op.values)) * max(map(abs, op.weight_values))
    widest = min(4 // code_bits(source.levels), 127 // max(1, largest), 4 if op.weight_bits == 1 else 3)
    per_quad = max(1, widest)
    quads = -(-(source.channels // op.groups) // per_quad)
    return Frame(per_quad, op.groups, quads, stride, phases, front, size, row)
