"""Winograd's transforms of square tiles, written as LLVM so that they run over eight channels at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

#: Channels per vector; channels must be a multiple of it.
LANES = 8

_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _times(builder: ir.IRBuilder, coefficient: float, vector: ir.Value) -> ir.Value:
    return builder.fmul(vector, ir.Constant(_VECTOR, [coefficient] * LANES))


def _combine(builder: ir.IRBuilder, row: Sequence[float], vectors: Sequence[ir.Value]) -> ir.Value:
    """The sum of coefficient times vector, from left to right; products may be fused with sums."""
    total = None
    for coefficient, vector in zip(row, vectors, strict=True):
        if coefficient == 0:
            continue
        if total is None:
            total = vector if coefficient == 1 else _times(builder, coefficient, vector)
        elif coefficient == 1:
            total = builder.fadd(total, vector)
        elif coefficient == -1:
            total = builder.fsub(total, vector)
        else:
            total = builder.fadd(total, _times(builder, coefficient, vector), flags=("contract",))
    return total


def _at(builder: ir.IRBuilder, base: ir.Value, place: ir.Value) -> ir.Value:
    """A pointer to the vector that begins with number ``place``."""
    return builder.bitcast(builder.gep(base, [place]), _VECTOR.as_pointer())


def _nearest(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    kind = ir.FunctionType(_VECTOR, (_VECTOR,))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.nearbyint.v{LANES}f32"), (value,))


def make_transform(matrix: NDArray[np.float64], *, scaled: bool = False) -> Any:
    r"""A compiled function that computes :math:`L D L^T` for a matrix L (m, n) and tiles D (n, n), channel by channel.

    ``transform(source, start, row, column, target, start, row, column, factors)`` reads D[i, j] at ``source[start + i
    row + j column + c]`` for each channel c, and writes the (m, m) result to ``target`` in the same way. All arrays are
    flat float32. There are as many channels as ``factors``, a multiple of :data:`LANES`; with ``scaled`` results are
    rounded to the nearest integer and multiplied by the factor of their channel, else only the number of factors
    counts. Nothing looks at the bounds of the arrays.
    """
    m, n = matrix.shape
    rows = [[float(entry) for entry in row] for row in matrix]

    @intrinsic
    def transform(
        typingctx: Any, source: Any, start: Any, row: Any, column: Any, target: Any, begin: Any, down: Any,
        right: Any, factors: Any,
    ) -> Any:  # fmt: skip
        place = types.intp

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            read, write, factor = (context.make_array(sig.args[i])(context, builder, args[i]) for i in (0, 4, 8))
            size = builder.extract_value(factor.shape, 0)

            def pointer(base: ir.Value, where: Sequence[ir.Value], i: int, j: int, channel: ir.Value) -> ir.Value:
                start, row, column = where
                place = builder.add(start, channel)
                for count, step in ((i, row), (j, column)):
                    place = builder.add(place, builder.mul(step, ir.Constant(_I64, count)))
                return _at(builder, base, place)

            zero, step = ir.Constant(_I64, 0), ir.Constant(_I64, LANES)
            with cgutils.for_range_slice(builder, zero, size, step, intp=_I64) as (channel, _):
                columns = []
                for j in range(n):
                    tile = [builder.load(pointer(read.data, args[1:4], i, j, channel), align=4) for i in range(n)]
                    columns.append([_combine(builder, line, tile) for line in rows])
                times = builder.load(_at(builder, factor.data, channel), align=4) if scaled else None
                for i in range(m):
                    for j in range(m):
                        value = _combine(builder, rows[j], [column[i] for column in columns])
                        if times is not None:
                            value = builder.fmul(_nearest(builder, value), times)
                        builder.store(value, pointer(write.data, args[5:8], i, j, channel), align=4)
            return context.get_dummy_value()

        return types.void(source, place, place, place, target, place, place, place, factors), generate

    return transform
