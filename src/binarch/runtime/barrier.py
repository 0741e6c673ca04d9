"""A barrier between threads that run one plan together."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def meet(typingctx: Any, counter: Any, goal: Any) -> Any:
    """Add one to ``counter[0]`` (int64) and return when it has reached ``goal``.

    All threads call it with the same growing goals, as many times. They spin: steps of a plan take microseconds, a
    wake-up by the system takes longer. What was written before is seen after.
    """
    signature = types.void(counter, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        place = context.make_array(sig.args[0])(context, builder, args[0]).data
        one, zero = ir.Constant(ir.IntType(64), 1), ir.Constant(ir.IntType(64), 0)
        builder.atomic_rmw("add", place, one, "seq_cst")
        wait = builder.append_basic_block("wait")
        done = builder.append_basic_block("done")
        builder.branch(wait)
        builder.position_at_end(wait)
        arrived = builder.atomic_rmw("add", place, zero, "seq_cst")
        builder.cbranch(builder.icmp_signed("<", arrived, args[1]), wait, done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate
