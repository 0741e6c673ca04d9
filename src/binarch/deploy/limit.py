"""How many binary multiply-accumulates per second this machine could do if nothing but counting took time.

A binary multiply-accumulate is one bit of ``popcount(x xor w)``; a 64-bit word holds 64. The limit is that of
registers: xor, popcount and addition, no memory. LLVM's ``ctpop`` becomes what the processor has: VPOPCNTQ with
AVX-512, byte shuffles with AVX2, CNT with NEON, POPCNT for single words. Which width is best is measured.

A limit of this way of counting, not of all: looking sums up in tables, as :mod:`binarch.runtime.lookup` does, may pass
it where popcount is no vector instruction.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

#: 64-bit words per vector that are tried.
WIDTHS = (1, 2, 4, 8)
#: Sums that run side by side, to keep the units busy.
SUMS = 8


def make_counter(lanes: int) -> Any:
    """A compiled function ``count(times)``: xor, popcount and addition for ``times`` x ``SUMS`` x ``lanes`` words.

    Word number t of sum k is x_k xor w_t with w_t = w_{t-1} + an odd constant; the total is returned, so LLVM can
    neither leave anything out nor find a formula for it.
    """

    @intrinsic
    def spin(typingctx: Any, times: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.VectorType(word, lanes) if lanes > 1 else word

            def constant(seed: int) -> ir.Value:
                values = [(seed * 2 + 1) * 0x9E3779B97F4A7C15 * (2 * lane + 1) % 2**64 for lane in range(lanes)]
                return ir.Constant(kind, values if lanes > 1 else values[0])

            popcount = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, (kind,)), f"llvm.ctpop.{f'v{lanes}' if lanes > 1 else ''}i64"
            )
            before = builder.block
            head, body, after = (builder.append_basic_block(name) for name in ("words", "word", "done"))
            builder.branch(head)
            builder.position_at_end(head)
            step, weights = builder.phi(word), builder.phi(kind)
            totals = [builder.phi(kind) for _ in range(SUMS)]
            step.add_incoming(ir.Constant(word, 0), before)
            weights.add_incoming(constant(0), before)
            for total in totals:
                total.add_incoming(ir.Constant(kind, None if lanes > 1 else 0), before)
            builder.cbranch(builder.icmp_signed("<", step, args[0]), body, after)
            builder.position_at_end(body)
            for k, total in enumerate(totals):
                counted = builder.call(popcount, (builder.xor(constant(k + 1), weights),))
                total.add_incoming(builder.add(total, counted), body)
            weights.add_incoming(builder.add(weights, constant(SUMS + 1)), body)
            step.add_incoming(builder.add(step, ir.Constant(word, 1)), body)
            builder.branch(head)
            builder.position_at_end(after)
            whole = totals[0]
            for total in totals[1:]:
                whole = builder.add(whole, total)
            if lanes == 1:
                return whole
            parts = [builder.extract_element(whole, ir.Constant(ir.IntType(32), lane)) for lane in range(lanes)]
            for part in parts[1:]:
                parts[0] = builder.add(parts[0], part)
            return parts[0]

        return types.uint64(types.intp), generate

    @njit(nogil=True)
    def count(times: int) -> Any:
        return spin(times)

    return count


@final
class PopcountLimit:
    """Measures the limit again and again, so that it can take turns with what it is compared to."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._counters = {lanes: make_counter(lanes) for lanes in WIDTHS}
        self._pool = ThreadPoolExecutor(threads)
        for counter in self._counters.values():
            counter(1)

    def measure(self, words: int = 1 << 24) -> dict[int, float]:
        """Binary multiply-accumulates per second of all threads together, by words per vector.

        Each width counts ``words`` words per thread: some milliseconds.
        """
        rates = {}
        for lanes, counter in self._counters.items():
            times = max(1, words // (SUMS * lanes))
            started = time.perf_counter()
            if self.threads == 1:
                counter(times)
            else:
                list(self._pool.map(counter, [times] * self.threads))
            rates[lanes] = self.threads * times * SUMS * lanes * 64 / (time.perf_counter() - started)
        return rates
