"""The vector code of the fast kernels, written as LLVM: sixteen-entry tables looked up 32 pixels at a time.

Four one-bit activations of a pixel make a number from 0 to 15. For four given weights the sum of their products with
those activations is one of 16 small integers; a table holds them, and one byte shuffle (``pshufb``, ``tbl``) looks up
32 pixels at once: 128 multiply-accumulates in one shuffle and one addition. An index with its top bit set looks up
zero, which is exactly what padding must add. Weights of two bits, or activations of two, only make other tables.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

#: Pixels per vector of codes.
LANES = 32
#: Pixels per vector of doubles.
DOUBLES = 4

_I8, _I16, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(64)
_BYTES, _TABLE = ir.VectorType(_I8, LANES), ir.VectorType(_I8, 16)


def cpu_features() -> frozenset[str]:
    """What Numba may use of this processor (``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` narrow it down)."""
    if config.CPU_FEATURES is not None:
        return frozenset(part[1:] for part in config.CPU_FEATURES.split(",") if part.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def _halves(builder: ir.IRBuilder, instruction: str, table: ir.Value, index: ir.Value) -> ir.Value:
    """32 lookups by two 16-lane instructions."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_TABLE, (_TABLE, _TABLE)), instruction)
    parts = []
    for half in (range(16), range(16, 32)):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 16), list(half))
        part = builder.shuffle_vector(index, ir.Constant(_BYTES, ir.Undefined), mask)
        parts.append(builder.call(function, (table, part)))
    return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(ir.IntType(32), 32), list(range(32))))


def _one_by_one(builder: ir.IRBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
    """32 lookups without a shuffle instruction: right anywhere, fast nowhere."""
    found: ir.Value = ir.Constant(_BYTES, ir.Undefined)
    for lane in range(LANES):
        position = ir.Constant(ir.IntType(32), lane)
        code = builder.extract_element(index, position)
        entry = builder.extract_element(table, builder.and_(code, ir.Constant(_I8, 15)))
        padding = builder.icmp_signed("<", code, ir.Constant(_I8, 0))
        found = builder.insert_element(found, builder.select(padding, ir.Constant(_I8, 0), entry), position)
    return found


def _lookup(features: frozenset[str]) -> Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]:
    """How this processor looks up 32 bytes in one table of 16."""
    if "avx2" in features:
        twice = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [i % 16 for i in range(LANES)])

        def avx2(builder: ir.IRBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_BYTES, (_BYTES, _BYTES)), "llvm.x86.avx2.pshuf.b"
            )
            both = builder.shuffle_vector(table, ir.Constant(_TABLE, ir.Undefined), twice)
            return builder.call(function, (both, index))

        return avx2
    for feature, name in (("ssse3", "llvm.x86.ssse3.pshuf.b.128"), ("neon", "llvm.aarch64.neon.tbl1.v16i8")):
        if feature in features:
            return lambda builder, table, index: _halves(builder, name, table, index)
    return _one_by_one


def instruction_set() -> str:
    """The name of what the lookups compile to here."""
    return next((name for name in ("avx2", "ssse3", "neon") if name in cpu_features()), "portable")


def _pointer(context: Any, builder: ir.IRBuilder, sig: Any, args: Any, position: int) -> ir.Value:
    """The data of an array argument, as bytes."""
    array = context.make_array(sig.args[position])(context, builder, args[position])
    return builder.bitcast(array.data, _I8.as_pointer())


def _at(builder: ir.IRBuilder, base: ir.Value, byte: ir.Value, kind: ir.Type) -> ir.Value:
    """A pointer to ``kind``, ``byte`` bytes from ``base``."""
    return builder.bitcast(builder.gep(base, [byte]), kind.as_pointer())


def _spread(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A vector with ``value`` in every lane."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), first)


def make_compare(held: int) -> Any:
    """Nibbles from ``held`` (1 to 4) channels of real numbers, with their padding.

    The compiled function ``compare(maps, x, pitch, limits, first, mask, codes, begin, size, front, pads, pad, length)``
    fills ``codes[begin : begin + size]`` with 0x80; then, for pixels p below ``length`` rounded up to whole vectors,
    it sets

        codes[begin + front + p] = pads[pad + p] or (mask xor sum over k of
            (maps[x + k * pitch + p] >= limits[first + k]) << k)

    ``pads`` holds 0x80 where a row's padding is, else 0; ``size`` counts whole vectors.
    """

    @intrinsic
    def compare(
        typingctx: Any, maps: Any, x: Any, pitch: Any, limits: Any, first: Any, mask: Any, codes: Any, begin: Any,
        size: Any, front: Any, pads: Any, pad: Any, length: Any,
    ) -> Any:  # fmt: skip
        place = types.intp
        signature = types.void(
            maps, place, place, limits, place, types.uint8, codes, place, place, place, pads, place, place
        )

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            number, ints = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
            maps_, limits_, codes_, pads_ = (_pointer(context, builder, sig, args, i) for i in (0, 3, 6, 10))
            _, x_, pitch_, _, first_, mask_, _, begin_, size_, front_, _, pad_, length_ = args
            zero, step = ir.Constant(_I64, 0), ir.Constant(_I64, LANES)

            def bytes4(position: ir.Value) -> ir.Value:
                return builder.shl(position, ir.Constant(_I64, 2))

            with cgutils.for_range_slice(builder, zero, size_, step, intp=_I64) as (i, _):
                padding = ir.Constant(_BYTES, [0x80] * LANES)
                builder.store(padding, _at(builder, codes_, builder.add(begin_, i), _BYTES), align=1)
            rows, least = [], []
            for k in range(held):
                rows.append(builder.add(x_, builder.mul(pitch_, ir.Constant(_I64, k))))
                limit = _at(builder, limits_, bytes4(builder.add(first_, ir.Constant(_I64, k))), ir.FloatType())
                least.append(_spread(builder, builder.load(limit), LANES))
            masks, out = _spread(builder, mask_, LANES), builder.add(begin_, front_)
            with cgutils.for_range_slice(builder, zero, length_, step, intp=_I64) as (p, _):
                nibbles: ir.Value = ir.Constant(ints, None)
                for k in range(held):
                    seen = builder.load(_at(builder, maps_, bytes4(builder.add(rows[k], p)), number), align=4)
                    passed = builder.sext(builder.fcmp_ordered(">=", seen, least[k]), ints)
                    nibbles = builder.or_(nibbles, builder.and_(passed, ir.Constant(ints, [1 << k] * LANES)))
                narrow = builder.xor(builder.trunc(nibbles, _BYTES), masks)
                edge = builder.load(_at(builder, pads_, builder.add(pad_, p), _BYTES), align=1)
                builder.store(builder.or_(narrow, edge), _at(builder, codes_, builder.add(out, p), _BYTES), align=1)
            return context.get_dummy_value()

        return signature, generate

    return compare


def make_finish(*, residual: bool, total: bool) -> Any:
    """What follows a binary convolution, for one channel.

    The compiled function ``finish(sums, at, length, scale, slope, maps, out, before, others)`` sets, for pixels p below
    ``length`` (whole vectors),

        y = sums[at + p] * scale;  y = y where y > 0, else y * slope
        maps[out + p] = (maps[others + p] +) (maps[before + p] +) y

    with the terms in brackets where ``total`` and ``residual`` say so, rounded after every step. ``sums``: int8 or
    int16.
    """

    @intrinsic
    def finish(
        typingctx: Any, sums: Any, at: Any, length: Any, scale: Any, slope: Any, maps: Any, out: Any, before: Any,
        others: Any,
    ) -> Any:  # fmt: skip
        place, real = types.intp, types.float32
        signature = types.void(sums, place, place, real, real, maps, place, place, place)

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            number = ir.VectorType(ir.FloatType(), LANES)
            bits = sig.args[0].dtype.bitwidth
            sums_, maps_ = (_pointer(context, builder, sig, args, i) for i in (0, 5))
            _, at_, length_, scale_, slope_, _, out_, before_, others_ = args
            scales, slopes = _spread(builder, scale_, LANES), _spread(builder, slope_, LANES)

            def pixels(start: ir.Value, p: ir.Value) -> ir.Value:
                return _at(builder, maps_, builder.shl(builder.add(start, p), ir.Constant(_I64, 2)), number)

            with cgutils.for_range_slice(
                builder, ir.Constant(_I64, 0), length_, ir.Constant(_I64, LANES), intp=_I64
            ) as (p, _):
                byte = builder.mul(builder.add(at_, p), ir.Constant(_I64, bits // 8))
                counts = builder.load(_at(builder, sums_, byte, ir.VectorType(ir.IntType(bits), LANES)), align=1)
                y = builder.fmul(builder.sitofp(counts, number), scales)
                bent = builder.fmul(y, slopes)
                y = builder.select(builder.fcmp_ordered(">", y, ir.Constant(number, None)), y, bent)
                if residual:
                    y = builder.fadd(builder.load(pixels(before_, p), align=4), y)
                if total:
                    y = builder.fadd(builder.load(pixels(others_, p), align=4), y)
                builder.store(y, pixels(out_, p), align=4)
            return context.get_dummy_value()

        return signature, generate

    return finish


@intrinsic
def keep_larger(typingctx: Any, lines: Any, to: Any, others: Any, start: Any, length: Any) -> Any:
    """``lines[to + i] = max(lines[to + i], others[start + i])`` for i below ``length`` rounded up to 8.

    LLVM does not make vectors of this loop by itself, and makes slow masked stores of a comparison and a choice.
    """
    signature = types.void(lines, types.intp, others, types.intp, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        eight = ir.VectorType(ir.FloatType(), 8)
        lines_, others_ = (_pointer(context, builder, sig, args, i) for i in (0, 2))
        larger = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(eight, (eight, eight)), "llvm.maxnum.v8f32"
        )
        zero, step, two = (ir.Constant(_I64, n) for n in (0, 8, 2))
        with cgutils.for_range_slice(builder, zero, args[4], step, intp=_I64) as (i, _):
            old = _at(builder, lines_, builder.shl(builder.add(args[1], i), two), eight)
            new = _at(builder, others_, builder.shl(builder.add(args[3], i), two), eight)
            kept, seen = builder.load(old, align=4), builder.load(new, align=4)
            builder.store(builder.call(larger, (seen, kept), fastmath=("nnan",)), old, align=4)
        return context.get_dummy_value()

    return signature, generate


def make_real_tile(rows: int, vectors: int) -> Any:
    """A register tile of ``rows`` filters by ``vectors`` x 4 pixels, in double.

    The compiled function ``tile(work, start, offsets, first, last, weights, row, width, at, pitch)`` sets, for each row
    r and pixel p,

        work[at + r * pitch + p] = sum over q in [first, last) of
            weights[row + r * width + q - first] * work[start + offsets[q] + p]
    """

    @intrinsic
    def tile(
        typingctx: Any, work: Any, start: Any, offsets: Any, first: Any, last: Any, weights: Any, row: Any, width: Any,
        at: Any, pitch: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            work, types.intp, offsets, types.intp, types.intp, weights, types.intp, types.intp, types.intp, types.intp
        )

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            double, four = ir.DoubleType(), ir.VectorType(ir.DoubleType(), DOUBLES)
            work_, offsets_, weights_ = (_pointer(context, builder, sig, args, i) for i in (0, 2, 5))
            _, start_, _, first_, last_, _, row_, width_, at_, pitch_ = args
            fused = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(four, (four, four, four)), "llvm.fmuladd.v4f64"
            )

            def eight(position: ir.Value) -> ir.Value:
                return builder.shl(position, ir.Constant(_I64, 3))

            def constant(value: int) -> ir.Value:
                return ir.Constant(_I64, value)

            before = builder.block
            head, body, after = (builder.append_basic_block(name) for name in ("taps", "tap", "done"))
            builder.branch(head)
            builder.position_at_end(head)
            q = builder.phi(_I64)
            q.add_incoming(first_, before)
            totals = [[builder.phi(four) for _ in range(vectors)] for _ in range(rows)]
            for total in (total for line in totals for total in line):
                total.add_incoming(ir.Constant(four, None), before)
            builder.cbranch(builder.icmp_signed("<", q, last_), body, after)
            builder.position_at_end(body)
            base = builder.add(start_, builder.load(_at(builder, offsets_, eight(q), _I64)))
            seen = [
                builder.load(_at(builder, work_, eight(builder.add(base, constant(v * DOUBLES))), four), align=8)
                for v in range(vectors)
            ]
            for r in range(rows):
                which = builder.add(builder.add(row_, builder.mul(width_, constant(r))), builder.sub(q, first_))
                weight = builder.load(_at(builder, weights_, eight(which), double))
                spread = _spread(builder, weight, DOUBLES)
                for v in range(vectors):
                    totals[r][v].add_incoming(builder.call(fused, (spread, seen[v], totals[r][v])), body)
            q.add_incoming(builder.add(q, constant(1)), body)
            builder.branch(head)
            builder.position_at_end(after)
            for r in range(rows):
                for v in range(vectors):
                    place = builder.add(builder.add(at_, builder.mul(pitch_, constant(r))), constant(v * DOUBLES))
                    builder.store(totals[r][v], _at(builder, work_, eight(place), four), align=8)
            return context.get_dummy_value()

        return signature, generate

    return tile


def make_tile(rows: int, vectors: int, *, narrow: bool) -> Any:
    """A register tile of ``rows`` filters by ``vectors`` x 32 pixels.

    The compiled function ``tile(codes, start, offsets, first, last, ids, row, width, tables, sums, at, pitch, fresh)``
    computes for each row r and pixel p, in 8 bits, which is why the caller keeps last - first small,

        total = sum over q in [first, last) of
            tables[8 * ids[row + r * width + q] + codes[start + offsets[q] + p]]

    and stores it at ``sums[at + r * pitch + p]``: in int8 if ``narrow``; else in int16, added to what is there unless
    ``fresh``. ``codes``, ``ids``: uint8; ``offsets``: int64; ``tables``: int8. A code of 0x80 looks up 0. An id is
    twice the number of its table: processors multiply by 8 while they load, but not by 16.
    """

    @intrinsic
    def tile(
        typingctx: Any, codes: Any, start: Any, offsets: Any, first: Any, last: Any, ids: Any, row: Any, width: Any,
        tables: Any, sums: Any, at: Any, pitch: Any, fresh: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            codes, types.intp, offsets, types.intp, types.intp, ids, types.intp, types.intp, tables, sums, types.intp,
            types.intp, types.boolean,
        )  # fmt: skip

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            def load(base: ir.Value, byte: ir.Value, kind: ir.Type) -> ir.Value:
                return builder.load(_at(builder, base, byte, kind), align=1)

            def constant(value: int) -> ir.Value:
                return ir.Constant(_I64, value)

            look = _lookup(cpu_features())
            codes_, offsets_, ids_, tables_, sums_ = (_pointer(context, builder, sig, args, i) for i in (0, 2, 5, 8, 9))
            start_, first_, last_, row_, width_, at_, pitch_, fresh_ = (args[i] for i in (1, 3, 4, 6, 7, 10, 11, 12))
            before = builder.block
            head, body, after = (builder.append_basic_block(name) for name in ("quads", "quad", "done"))
            builder.branch(head)
            builder.position_at_end(head)
            q = builder.phi(_I64)
            q.add_incoming(first_, before)
            totals = [[builder.phi(_BYTES) for _ in range(vectors)] for _ in range(rows)]
            for total in (total for line in totals for total in line):
                total.add_incoming(ir.Constant(_BYTES, None), before)
            builder.cbranch(builder.icmp_signed("<", q, last_), body, after)
            builder.position_at_end(body)
            base = builder.add(start_, load(offsets_, builder.shl(q, constant(3)), _I64))
            index = [load(codes_, builder.add(base, constant(v * LANES)), _BYTES) for v in range(vectors)]
            for r in range(rows):
                which = builder.add(builder.add(row_, builder.mul(width_, constant(r))), q)
                number = builder.zext(load(ids_, which, _I8), _I64)
                table = load(tables_, builder.shl(number, constant(3)), _TABLE)
                for v in range(vectors):
                    found = builder.add(totals[r][v], look(builder, table, index[v]))
                    totals[r][v].add_incoming(found, builder.block)
            q.add_incoming(builder.add(q, constant(1)), builder.block)
            builder.branch(head)
            builder.position_at_end(after)
            wide = ir.VectorType(_I16, LANES)
            for r in range(rows):
                for v in range(vectors):
                    place = builder.add(builder.add(at_, builder.mul(pitch_, constant(r))), constant(v * LANES))
                    if narrow:
                        builder.store(totals[r][v], _at(builder, sums_, place, _BYTES), align=1)
                        continue
                    there = _at(builder, sums_, builder.shl(place, constant(1)), wide)
                    old = builder.select(fresh_, ir.Constant(wide, None), builder.load(there, align=2))
                    builder.store(builder.add(builder.sext(totals[r][v], wide), old), there, align=2)
            return context.get_dummy_value()

        return signature, generate

    return tile
