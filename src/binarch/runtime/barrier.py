"""A barrier between threads that run one plan together."""

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Looks at the counter before a thread gives way.
PATIENCE = 4096


@intrinsic
def meet(typingctx: Any, counter: Any, goal: Any) -> Any:
    """Add one to ``counter[0]`` (int64) and return when it has reached ``goal``.

    All threads call it with the same growing goals, as many times. They spin: steps of a plan take microseconds, a
    wake-up by the system takes longer. Who has spun in vain for a while offers its core to others. What was written
    before is seen after.
    """
    signature = types.void(counter, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        place = context.make_array(sig.args[0])(context, builder, args[0]).data
        word = ir.IntType(64)
        zero, one, patience = (ir.Constant(word, n) for n in (0, 1, PATIENCE))
        builder.atomic_rmw("add", place, one, "seq_cst")
        before = builder.block
        wait, spin, rest, done = (builder.append_basic_block(name) for name in ("wait", "spin", "rest", "done"))
        builder.branch(wait)
        builder.position_at_end(wait)
        spins = builder.phi(word)
        spins.add_incoming(zero, before)
        arrived = builder.atomic_rmw("add", place, zero, "seq_cst")
        builder.cbranch(builder.icmp_signed("<", arrived, args[1]), spin, done)
        builder.position_at_end(spin)
        more = builder.add(spins, one)
        spins.add_incoming(more, spin)
        builder.cbranch(builder.icmp_signed("<", more, patience), wait, rest)
        builder.position_at_end(rest)
        if sys.platform != "win32":  # somebody else may need this core to get here
            give_way = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.IntType(32), ()), "sched_yield"
            )
            builder.call(give_way, ())
        spins.add_incoming(zero, rest)
        builder.branch(wait)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate
