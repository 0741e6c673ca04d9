"""The one trick of the fast kernels, as LLVM vector code: sixteen-entry tables looked up 32 pixels at a time.

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

#: Pixels per vector.
LANES = 32

_I8, _I16, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(64)
_BYTES, _TABLE = ir.VectorType(_I8, LANES), ir.VectorType(_I8, 16)


def cpu_features() -> frozenset[str]:
    """What Numba may use of this processor (``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` narrow it down)."""
    if config.CPU_FEATURES is not None:
        return frozenset(part[1:] for part in config.CPU_FEATURES.split(",") if part.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def _halves(builder: ir.IRBuilder, instruction: str, table: ir.Value, index: ir.Value) -> ir.Value:
    """32 lookups by two 16-lane instructions."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_TABLE, (_TABLE, _TABLE)), instruction
    )
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
    """The name of what :func:`tile` compiles to here."""
    return next((name for name in ("avx2", "ssse3", "neon") if name in cpu_features()), "portable")


def make_tile(rows: int, vectors: int) -> Any:
    """A register tile of ``rows`` filters by ``vectors`` x 32 pixels.

    The compiled function ``tile(codes, start, offsets, first, last, ids, row, width, tables, sums, at, pitch, fresh)``
    computes for each row r and pixel p

        sums[at + r * pitch + p] (+)= sum over q in [first, last) of
            tables[16 * ids[row + r * width + q] + codes[start + offsets[q] + p]]

    in 8 bits, which is why the caller keeps last - first small, and adds that to 16-bit ``sums`` (or stores it, where
    ``fresh`` is true). ``codes``, ``ids``: uint8; ``offsets``: int64; ``tables``: int8. A code of 0x80 looks up 0.
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
            def pointer(position: int) -> ir.Value:
                array = context.make_array(sig.args[position])(context, builder, args[position])
                return builder.bitcast(array.data, _I8.as_pointer())

            def load(base: ir.Value, byte: ir.Value, kind: ir.Type) -> ir.Value:
                place = builder.bitcast(builder.gep(base, [byte]), kind.as_pointer())
                return builder.load(place, align=1)

            look = _lookup(cpu_features())
            codes_, offsets_, ids_, tables_, sums_ = (pointer(i) for i in (0, 2, 5, 8, 9))
            start_, first_, last_, row_, width_, at_, pitch_, fresh_ = (args[i] for i in (1, 3, 4, 6, 7, 10, 11, 12))
            zero = ir.Constant(_BYTES, None)
            before = builder.block
            head = builder.append_basic_block("quads")
            body = builder.append_basic_block("quad")
            after = builder.append_basic_block("done")
            builder.branch(head)
            builder.position_at_end(head)
            q = builder.phi(_I64)
            q.add_incoming(first_, before)
            totals = [[builder.phi(_BYTES) for _ in range(vectors)] for _ in range(rows)]
            for line in totals:
                for total in line:
                    total.add_incoming(zero, before)
            builder.cbranch(builder.icmp_signed("<", q, last_), body, after)
            builder.position_at_end(body)
            offset = load(offsets_, builder.shl(q, ir.Constant(_I64, 3)), _I64)
            base = builder.add(start_, offset)
            index = [
                load(codes_, builder.add(base, ir.Constant(_I64, v * LANES)), _BYTES) for v in range(vectors)
            ]
            following = []
            for r in range(rows):
                which = builder.add(builder.add(row_, builder.mul(width_, ir.Constant(_I64, r))), q)
                number = builder.zext(load(ids_, which, _I8), _I64)
                table = load(tables_, builder.shl(number, ir.Constant(_I64, 4)), _TABLE)
                following.append([builder.add(totals[r][v], look(builder, table, index[v])) for v in range(vectors)])
            body_end = builder.block
            q.add_incoming(builder.add(q, ir.Constant(_I64, 1)), body_end)
            for line, new in zip(totals, following, strict=True):
                for total, value in zip(line, new, strict=True):
                    total.add_incoming(value, body_end)
            builder.branch(head)
            builder.position_at_end(after)
            wide = ir.VectorType(_I16, LANES)
            for r in range(rows):
                for v in range(vectors):
                    place = builder.add(builder.add(at_, builder.mul(pitch_, ir.Constant(_I64, r))),
                                        ir.Constant(_I64, v * LANES))  # fmt: skip
                    byte = builder.shl(place, ir.Constant(_I64, 1))
                    there = builder.bitcast(builder.gep(sums_, [byte]), wide.as_pointer())
                    old = builder.select(fresh_, ir.Constant(wide, None), builder.load(there, align=2))
                    builder.store(builder.add(builder.sext(totals[r][v], wide), old), there, align=2)
            return context.get_dummy_value()

        return signature, generate

    return tile
