"""From a checked program to steps for the kernels: what is fused, where each value lies, which tables are looked up."""

from dataclasses import dataclass
from math import prod
from typing import Any, final

import numpy as np

from binarch.errors import UserError
from binarch.runtime import kernels
from binarch.runtime.fuse import Chain, find_chains
from binarch.runtime.layout import Arena, Frame, Place, code_bits, frame_of, phase_of, row_lengths, up
from binarch.runtime.lookup import LANES
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
    Pool,
    PRelu,
    Quantize,
    Shape,
    Shuffle,
    Zeros,
)  # fmt: skip
from binarch.runtime.program import Program
from binarch.runtime.reference import unpack
from binarch.runtime.tables import build_tables, table_numbers

#: Most bytes that a plan may need for values and scratch, per thread.
LARGEST_ARENA = 1 << 30


@final
@dataclass(frozen=True)
class Plan:
    """What :func:`kernels.execute` needs: steps, constants, and how much room the values take."""

    steps: np.ndarray
    constants: tuple[np.ndarray, ...]
    """reals, doubles, flips, limits, ids, offsets, tables, rows, pads: in the order of the kernels' arguments."""
    maps: int
    codes: int
    lines: int
    sums: int
    work: int
    words: int
    output: Place
    classes: int

    def shared(self) -> tuple[np.ndarray, ...]:
        """Fresh room for the values of one image: maps, codes, words."""
        return (
            np.zeros(self.maps, np.float32),
            np.full(self.codes, kernels.PADDING, np.uint8),
            np.zeros(self.words, np.uint64),
        )

    def scratch(self) -> tuple[np.ndarray, ...]:
        """Fresh room for one thread: lines, sums (16 and 8 bits), work."""
        return (
            np.zeros(self.lines, np.float32),
            np.zeros(self.sums, np.int16),
            np.zeros(self.sums, np.int8),
            np.zeros(self.work, np.float64),
        )


@final
class Planner:
    """Builds one plan. Values get room when they are defined and return it after their last reader."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.chains = find_chains(program)
        self.ends = self._ends()
        self.rows = row_lengths(program)
        self.steps: list[list[int]] = []
        self.maps, self.codes = Arena(), Arena()
        self.lines = self.sums = self.work = self.words = 1
        self.places: dict[int, Place] = {}
        self.frames: dict[tuple[int, Frame], int] = {}
        self.doubles: list[np.ndarray] = []
        self.flips: list[np.ndarray] = []
        self.limits: list[float] = []
        self.ids: list[np.ndarray] = []
        self.offsets: list[int] = []
        self.tables: list[np.ndarray] = []
        self.bit_rows: list[np.ndarray] = []
        self.pads: list[np.ndarray] = []
        self._counts = {"doubles": 0, "flips": 0, "ids": 0, "tables": 0, "bit_rows": 0, "pads": 0}
        self._tables: dict[bytes, int] = {}
        self._edges: dict[tuple[int, int, int], int] = {}
        self._passing: list[tuple[int, int]] = []
        self._last = self._last_readers()
        self._slots = self._concatenations()
        self._deaths: dict[int, list[int]] = {}
        for value, index in self._last.items():
            self._deaths.setdefault(index, []).append(value)

    # What is fused and when values die

    def _ends(self) -> dict[int, int]:
        """For every instruction inside of a chain, where that ends and so where it runs."""
        ends = {}
        reader = {x: index for index, op in enumerate(self.program.ops) for x in op.inputs}
        for chain in self.chains.values():
            value = chain.start
            while value != chain.end:
                ends[value] = chain.end
                value = reader[value]
        return ends

    def _last_readers(self) -> dict[int, int]:
        """When each value is read for the last time."""
        last = {index: index for index in range(len(self.program.ops))}
        for index, op in reversed(list(enumerate(self.program.ops))):
            now = self.ends.get(index, index)
            if isinstance(op, Quantize):  # codes are made just before the convolution that reads them
                now = max(now, last[index])
            for x in op.inputs:
                last[x] = max(last[x], now)
        return last

    def _concatenations(self) -> dict[int, tuple[int, int]]:
        """For parts that are computed in their place of the whole: (concatenation, first channel)."""
        slots: dict[int, tuple[int, int]] = {}
        for index, op in enumerate(self.program.ops):
            if not isinstance(op, Concat):
                continue
            channel = 0
            for x in op.xs:
                if x not in slots and not isinstance(self.program.ops[x], Concat | Image | Flatten | Mean):
                    slots[x] = index, channel
                    self._last[index] = max(self._last[index], self._last[x])
                channel += self.program.shapes[x].channels
        return slots

    # Arena

    def _standard(self, shape: Shape) -> tuple[int, int]:
        row = self.rows[shape.width]
        return up(shape.height * row), row

    def _define(self, index: int, *, dense: bool = False) -> Place:
        """Arena for value ``index``."""
        shape = self.program.shapes[index]
        if index in self._slots:
            whole, channel = self._slots[index]
            if whole not in self.places:
                self.places[whole] = self._room(self.program.shapes[whole])
            base = self.places[whole]
            self.places[index] = Place(base.offset + channel * base.pitch, base.pitch, base.row)
        elif index not in self.places:
            self.places[index] = self._room(shape, dense=dense)
        return self.places[index]

    def _room(self, shape: Shape, *, dense: bool = False) -> Place:
        pitch, row = (shape.height * shape.width, shape.width) if dense else self._standard(shape)
        return Place(self.maps.take(up(shape.channels * pitch)), pitch, row)

    def _release(self, now: int) -> None:
        """Give back what nobody reads after instruction ``now``."""
        for stretch in self._passing:
            self.maps.give(*stretch)
        self._passing.clear()
        for value in self._deaths.get(now, ()):
            if value not in self.places or value == len(self.program.ops) - 1:
                continue
            place = self.places.pop(value)
            if value not in self._slots:  # a part's room belongs to the whole
                self.maps.give(place.offset, up(self.program.shapes[value].channels * place.pitch))

    # Steps

    def plan(self) -> Plan:
        """Walk the program."""
        starts = {chain.end: chain for chain in self.chains.values()}
        for index, op in enumerate(self.program.ops):
            if index in starts:
                self._bitconv(starts[index])
            elif index not in self.ends and not isinstance(op, Quantize):
                self._step(index)
            self._release(index)
            if self.maps.length * 4 + self.codes.length + self.work * 8 > LARGEST_ARENA:
                raise UserError(
                    f"the network needs more than {LARGEST_ARENA >> 20} MiB to run; it cannot be a sound one"
                )
        output = self.places[len(self.program.ops) - 1]
        table = np.zeros((len(self.steps), kernels.COLUMNS), np.int64)
        for line, step in zip(table, self.steps, strict=True):
            line[: len(step)] = step
        constants = (
            self.program.reals, _join(self.doubles, np.float64), _join(self.flips, np.uint8),
            np.array(self.limits or [0], np.float32), _join(self.ids, np.uint8),
            np.array(self.offsets or [0], np.int64), _join(self.tables, np.int8), _join(self.bit_rows, np.uint64),
            _join(self.pads, np.uint8),
        )  # fmt: skip
        room = 4 * LANES  # vectors may read, never use, what lies behind the last pixel
        return Plan(
            table, constants, self.maps.length + room, self.codes.length + room, self.lines, self.sums + room,
            self.work, self.words, output, self.program.shapes[-1].channels,
        )  # fmt: skip

    def _step(self, index: int) -> None:
        """Emit a plain instruction."""
        op, shape = self.program.ops[index], self.program.shapes[index]
        emit = self.steps.append
        match op:
            case Image():
                to = self._define(index)
                emit([kernels.IMAGE, to.offset, *shape.dims, to.row, to.pitch, op.mean, op.std])
            case Conv():
                self._conv(index, op)
            case Affine() | PRelu() | Clip():
                self._elementwise(index, op)
            case Shuffle():
                self._copy(op.x, self._define(index), op.groups)
            case Add():
                self._add(index, op)
            case Concat():
                to = self._define(index)
                channel = 0
                for x in op.xs:
                    if self._slots.get(x) != (index, channel):
                        self._copy(x, Place(to.offset + channel * to.pitch, to.pitch, to.row))
                    channel += self.program.shapes[x].channels
            case Pool():
                self._pool(index, op)
            case Mean():
                seen, source = self.places[op.x], self.program.shapes[op.x]
                to = self._define(index, dense=True)
                emit([kernels.MEAN, seen.offset, seen.pitch, seen.row, *source.dims[1:], source.channels, to.offset])
            case Flatten():
                source = self.program.shapes[op.x]
                to = self._define(index, dense=True)
                self._copy(op.x, Place(to.offset, source.height * source.width, source.width))
            case Zeros():
                to = self._define(index)
                emit([kernels.ZEROS, to.offset, shape.channels * to.pitch])
            case _:
                raise NotImplementedError(op.name)

    def _copy(self, x: int, to: Place, shuffle: int = 1) -> None:
        source = self.places[x]
        self.steps.append([
            kernels.COPY, source.offset, source.pitch, source.row, to.offset, to.pitch, to.row,
            *self.program.shapes[x].dims, shuffle,
        ])  # fmt: skip

    def _like(self, index: int, x: int) -> Place:
        """Arena for value ``index``, laid out as value ``x`` is."""
        source, shape = self.places[x], self.program.shapes[x]
        return self._define(index, dense=(source.pitch, source.row) == (shape.height * shape.width, shape.width))

    def _aligned(self, x: int, like: Place) -> int:
        """Offset of value ``x`` in rows like those of ``like``; a passing copy if it lies otherwise."""
        place = self.places[x]
        if (place.pitch, place.row) == (like.pitch, like.row):
            return place.offset
        length = up(self.program.shapes[x].channels * like.pitch)
        room = self.maps.take(length)
        self._passing.append((room, length))
        self._copy(x, Place(room, like.pitch, like.row))
        return room

    def _elementwise(self, index: int, op: Affine | PRelu | Clip) -> None:
        to = self._like(index, op.x)
        shape = self.program.shapes[index]
        length = (shape.height - 1) * to.row + shape.width
        head = [self._aligned(op.x, to), to.offset, to.pitch, shape.channels, length]
        match op:
            case Affine():
                self.steps.append([kernels.AFFINE, *head, op.scale, op.shift])
            case PRelu():
                self.steps.append([kernels.PRELU, *head, op.slope])
            case Clip():
                self.steps.append([kernels.CLIP, *head, len(self.limits)])
                self.limits += [op.low, op.high]

    def _add(self, index: int, op: Add) -> None:
        to = self._like(index, op.x)
        shape = self.program.shapes[index]
        length = (shape.height - 1) * to.row + shape.width
        x, y = self._aligned(op.x, to), self._aligned(op.y, to)
        self.steps.append([kernels.ADD, x, y, to.offset, to.pitch, shape.channels, length])

    def _conv(self, index: int, op: Conv) -> None:
        source, shape, window = self.program.shapes[op.x], self.program.shapes[index], op.window
        x = self.places[op.x]
        to = self._define(index, dense=shape.height == shape.width == 1)
        inside = source.channels // op.groups
        tall, wide = (
            (window.size[a] - 1) * window.stride[a] + (window.kernel[a] - 1) * window.dilation[a] + 1 for a in (0, 1)
        )
        length = -(-window.size[0] * window.stride[0] * wide // 8) * 8
        room = inside * tall * wide + length + 4 * length + 8
        self.work = max(self.work, room)
        first = len(self.offsets)
        (kh, kw), (dy, dx) = window.kernel, window.dilation
        self.offsets += [
            (c * tall + i * dy) * wide + j * dx for c in range(inside) for i in range(kh) for j in range(kw)
        ]
        count = op.weights([source])
        if op.weight_bits == 32:
            weight = self.program.reals[op.weight : op.weight + count]
        else:
            levels = self.program.reals[op.levels : op.levels + (1 << op.weight_bits)]
            weight = levels[unpack(self.program.bits, op.weight, count, op.weight_bits)]
        self.steps.append([
            kernels.CONV, x.offset, x.pitch, x.row, source.height, source.width, op.groups, inside, to.offset, to.pitch,
            to.row, shape.height, shape.width, shape.channels // op.groups, first, inside * kh * kw, *window.stride,
            *window.origin, self._keep("doubles", weight.astype(np.float64)), op.bias, tall, wide, length, room,
        ])  # fmt: skip

    def _pool(self, index: int, op: Pool) -> None:
        source, shape, window = self.program.shapes[op.x], self.program.shapes[index], op.window
        x, to = self.places[op.x], self._define(index)
        tall, wide = ((n - 1) * s + k for n, s, k in zip(window.size, window.stride, window.kernel, strict=True))
        if window.origin == (0, 0) and tall <= source.height and wide <= source.width:
            tall, wide = 0, x.row
        ends = ((n - 1) * s for n, s in zip(window.size, window.stride, strict=True))
        length = sum(end * step for end, step in zip(ends, (wide, 1), strict=True)) + 1
        self.lines = max(self.lines, tall * wide + length + 16 + shape.width)
        self.steps.append([
            kernels.POOL, x.offset, x.pitch, x.row, source.height, source.width, shape.channels, to.offset, to.pitch,
            to.row, shape.height, shape.width, *window.kernel, *window.stride, *window.origin,
            ("max", "mean", "mean_padded").index(op.kind), tall, wide, length,
        ])  # fmt: skip

    def _keep_tables(self, entries: np.ndarray) -> int:
        """Add tables, unless equal ones are there; return their offset."""
        key = entries.tobytes()
        if key not in self._tables:
            self._tables[key] = self._keep("tables", entries.reshape(-1))
        return self._tables[key]

    def _keep(self, name: str, values: np.ndarray) -> int:
        """Add constants; return their offset."""
        getattr(self, name).append(values)
        offset = self._counts[name]
        self._counts[name] += len(values)
        return offset

    # Binary convolutions

    def _bitconv(self, chain: Chain) -> None:
        op = self.program.ops[chain.start]
        assert isinstance(op, BitConv)
        quantize = self.program.ops[op.x]
        assert isinstance(quantize, Quantize)
        source, shape = self.program.shapes[op.x], self.program.shapes[chain.start]
        if self._is_linear(op, source, chain):
            self._bitlinear(chain, op, quantize)
            return
        frame = frame_of(op, source, shape, self.rows[shape.width])
        base = self._codes(op.x, quantize, source, frame)
        inside = source.channels // op.groups
        first, count = len(self.offsets), frame.quads * prod(op.window.kernel)
        for dy, dx in op.window.taps():
            (py, oy), (px, ox) = phase_of(dy, frame.stride[0]), phase_of(dx, frame.stride[1])
            at = frame.phases.index((py, px)) * op.groups * frame.quads * frame.size + oy * frame.row + ox
            self.offsets += [at + quad * frame.size for quad in range(frame.quads)]
        tables = build_tables(op, frame.per_quad, inside)
        codes = unpack(self.program.bits, op.weight, op.weights([source]), op.weight_bits)
        numbers = table_numbers(op, codes.reshape(op.out, inside, -1), frame.per_quad, tables)
        to = self._define(chain.end)
        self.sums = max(self.sums, 3 * to.pitch)
        self.steps.append([
            kernels.BITCONV, base + frame.front, first, count, frame.quads * frame.size, op.groups, op.out // op.groups,
            self._keep("ids", numbers.reshape(-1)), self._keep_tables(tables.entries), tables.chunk, to.pitch, op.scale,
            chain.slope, to.offset,
            chain.shuffle, *(-1 if x is None else self._aligned(x, to) for x in (chain.residual, chain.total)),
            tables.factor,
        ])  # fmt: skip
        self._release_codes(op.x, chain.end)

    def _is_linear(self, op: BitConv, source: Shape, chain: Chain) -> bool:
        """Whether words of bits serve better than pixels: one pixel, one tap, signs times signs."""
        return (
            source.dims[1:] == op.window.kernel == op.window.size == (1, 1)
            and op.window.origin == (0, 0)
            and op.groups == 1
            and op.values == (-1, 1)
            and op.weight_values == (-1, 1)
            and chain.shuffle == 1
            and chain.residual is None
            and chain.end not in self._slots
        )

    def _bitlinear(self, chain: Chain, op: BitConv, quantize: Quantize) -> None:
        source = self.program.shapes[op.x]
        x = self.places[quantize.x]
        if x.pitch != 1:
            x = Place(self._aligned(quantize.x, Place(0, 1, 1)), 1, 1)
        count = -(-source.channels // 64)
        self.words = max(self.words, count)
        codes = unpack(self.program.bits, op.weight, op.out * source.channels, 1).reshape(op.out, source.channels)
        bits = np.zeros((op.out, 64 * count), np.uint8)
        bits[:, : source.channels] = codes
        row = self._keep("bit_rows", np.packbits(bits, axis=1, bitorder="little").view("<u8").reshape(-1))
        to = self._define(chain.end, dense=True)
        self.steps.append(
            [kernels.PACK, x.offset, source.channels, 0, quantize.thresholds, self._flip(quantize, source)]
        )
        self.steps.append([
            kernels.BITLINEAR, 0, count, source.channels, row, op.scale, chain.slope, to.offset, op.out
        ])  # fmt: skip

    def _codes(self, value: int, quantize: Quantize, source: Shape, frame: Frame) -> int:
        """Offset of the codes of ``value`` in ``frame``, emitted unless another convolution asked for the same."""
        key = (value, frame)
        if key in self.frames:
            return self.frames[key]
        number = frame.groups * frame.quads
        base = self.codes.take(len(frame.phases) * number * frame.size)
        self.frames[key] = base
        x = self.places[quantize.x]
        flip = self._flip(quantize, source)
        for i, (py, px) in enumerate(frame.phases):
            height, width = (
                max(0, -(-(n - p) // s)) for n, p, s in zip(source.dims[1:], (py, px), frame.stride, strict=True)
            )
            self.lines = max(self.lines, 4 * up(height * frame.row))
            self.steps.append([
                kernels.QUANTIZE, x.offset, x.pitch, x.row, height, width, frame.row, base + i * number * frame.size,
                frame.size, frame.front, source.levels, quantize.thresholds, flip, frame.groups,
                source.channels // frame.groups, frame.per_quad, code_bits(source.levels), *frame.stride, py, px,
                self._edge(height, width, frame.row),
            ])  # fmt: skip
        return base

    def _edge(self, height: int, width: int, row: int) -> int:
        """Offset of a map's mask of padding: 0x80 right of every row and behind the last."""
        key = height, width, row
        if key not in self._edges:
            mask = np.full(up(height * row), kernels.PADDING, np.uint8)
            mask[: height * row].reshape(height, row)[:, :width] = 0
            self._edges[key] = self._keep("pads", mask)
        return self._edges[key]

    def _flip(self, quantize: Quantize, source: Shape) -> int:
        if quantize.flip < 0:
            return -1
        bits = unpack(self.program.bits, quantize.flip, source.channels, 1)
        return self._keep("flips", bits.astype(np.uint8)) if bits.any() else -1

    def _release_codes(self, value: int, now: int) -> None:
        if self._last[value] > now:
            return
        for key in [key for key in self.frames if key[0] == value]:
            frame = key[1]
            self.codes.give(self.frames.pop(key), len(frame.phases) * frame.groups * frame.quads * frame.size)


def _join(parts: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate(parts).astype(kind)) if parts else np.zeros(16, kind)
