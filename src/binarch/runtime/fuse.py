"""Which instructions run as one: a binary convolution takes what follows it along."""

from collections import Counter
from dataclasses import dataclass
from typing import final

from binarch.runtime.ops import Add, BitConv, PRelu, Shuffle
from binarch.runtime.program import Program


@final
@dataclass(frozen=True)
class Chain:
    """A :class:`BitConv` and its followers: ``total + (residual + shuffle(prelu(bitconv)))``, each part optional."""

    start: int
    end: int
    """The instruction whose value the chain yields."""
    slope: int = -1
    """Offset of the PReLU's slopes."""
    shuffle: int = 1
    residual: int | None = None
    total: int | None = None


def find_chains(program: Program) -> dict[int, Chain]:
    """The longest chain of every binary convolution, by its start.

    A follower joins if nothing else reads what it reads from the chain, and if an addition's other side is there
    before the convolution.
    """
    readers: dict[int, list[int]] = {}
    for index, op in enumerate(program.ops):
        for x, times in Counter(op.inputs).items():
            readers.setdefault(x, []).extend([index] * times)
    chains = {}
    for start, op in enumerate(program.ops):
        if not isinstance(op, BitConv):
            continue
        chain = Chain(start, start)
        while len(following := readers.get(chain.end, [])) == 1:
            longer = _extend(chain, following[0], program)
            if longer is None:
                break
            chain = longer
        chains[start] = chain
    return chains


def _extend(chain: Chain, index: int, program: Program) -> Chain | None:
    """``chain`` with instruction ``index`` at its end, if that is possible."""
    op = program.ops[index]
    old = (chain.start, index, chain.slope, chain.shuffle, chain.residual, chain.total)
    match op:
        case PRelu() if chain.slope < 0 and chain.shuffle == 1 and chain.residual is None:
            return Chain(*old[:2], op.slope)
        case Shuffle() if chain.shuffle == 1 and chain.residual is None:
            return Chain(*old[:3], op.groups)
        case Add():
            other = op.y if op.x == chain.end else op.x
            if other >= chain.start:
                return None
            if chain.residual is None:
                return Chain(*old[:4], other)
            if chain.total is None:
                return Chain(*old[:5], other)
    return None
