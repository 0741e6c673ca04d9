"""Collects the instructions and the trained numbers of a program."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

import numpy as np

from binarch.errors import UserError
from binarch.runtime.ops import Affine, Clip, Op, PRelu, Quantize, Shape
from binarch.runtime.program import Program

Curve = Callable[[np.ndarray], np.ndarray]


@final
class Builder:
    """A program under construction. ``add`` returns the number of the value that an instruction defines."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.owners: list[object] = []
        self._owner: object = None
        self.shapes: list[Shape] = []
        self._stores: dict[str, list[np.ndarray]] = {"bits": [], "reals": []}

    def add(self, op: Op) -> int:
        """Append an instruction."""
        self.shapes.append(op.shape([self.shapes[x] for x in op.inputs]))
        self.ops.append(op)
        self.owners.append(self._owner)
        return len(self.ops) - 1

    @contextmanager
    def owned_by(self, owner: object) -> Iterator[None]:
        """What is added meanwhile belongs to ``owner``: so a person can be told what takes the room."""
        before, self._owner = self._owner, owner
        try:
            yield
        finally:
            self._owner = before

    def reals(self, values: np.ndarray) -> int:
        """Store 32-bit numbers; the result stands for them in an instruction."""
        if np.isnan(values).any():
            raise UserError(
                "the network holds numbers that are not numbers (NaN): its training diverged; train it again"
            )
        return self._store("reals", np.array(values, np.float32).reshape(-1))

    def bits(self, codes: np.ndarray, width: int = 1) -> int:
        """Store codes of ``width`` bits, lowest bit first, from a fresh byte on; the result stands for them."""
        flat = codes.reshape(-1, 1).astype(np.uint8) >> np.arange(width, dtype=np.uint8) & 1
        return self._store("bits", np.packbits(flat.reshape(-1), bitorder="little"))

    def _store(self, kind: str, values: np.ndarray) -> int:
        self._stores[kind].append(values)
        return len(self._stores[kind]) - 1

    def quantize(self, x: int, thresholds: np.ndarray) -> int:
        """Compare value ``x`` with ascending ``thresholds`` (levels - 1), the same for all channels.

        Monotone layers before it (batch norm, ReLU, hard tanh, PReLU with positive slopes) disappear: a number passes
        exactly if it is on the right side of *one* threshold, which is found by bisection over all float32 numbers.
        """
        chain: list[Op] = []
        channels = self.shapes[x].channels
        rising = np.ones(channels)
        while isinstance(op := self.ops[x], Affine | Clip | PRelu) and (direction := self._rises(op)) is not None:
            chain.insert(0, op)
            rising = rising * direction
            x = op.x
        falling = rising < 0

        def curve(values: np.ndarray) -> np.ndarray:
            for op in chain:
                values = self._value(op, values)
            return values

        found = np.stack([np.where(falling, *_crossings(curve, t, channels)) for t in thresholds], 1)
        flip = self.bits(falling) if falling.any() else -1
        return self.add(Quantize(x, len(thresholds) + 1, self.reals(np.sort(found, 1)), flip))

    def _rises(self, op: Op) -> np.ndarray | float | None:
        """+1, 0 or -1 per channel: does the layer rise or fall? None where it does neither throughout."""
        match op:
            case Affine():
                return np.sign(self._stores["reals"][op.scale])
            case PRelu() if (self._stores["reals"][op.slope] < 0).any():
                return None
            case Clip() | PRelu():
                return 1.0
        return None

    def _value(self, op: Op, x: np.ndarray) -> np.ndarray:
        """The layer's value for one float32 number per channel, rounded as the runtime rounds."""
        with np.errstate(over="ignore", invalid="ignore"):  # the bisection tries the largest numbers too
            match op:
                case Affine():
                    scale, shift = (self._stores["reals"][at].astype(np.float64) for at in (op.scale, op.shift))
                    return (x.astype(np.float64) * scale + shift).astype(np.float32)
                case Clip():
                    return np.minimum(np.maximum(x, np.float32(op.low)), np.float32(op.high))
                case PRelu():
                    return np.where(x > 0, x, x * self._stores["reals"][op.slope])
        raise NotImplementedError(op.name)

    def kept(self) -> list[int]:
        """The instructions that the answer needs, and the image."""
        needed = {0, len(self.ops) - 1}
        for index in range(len(self.ops) - 1, -1, -1):
            if index in needed:
                needed.update(self.ops[index].inputs)
        return sorted(needed)

    def program(self, card: Mapping[str, Any]) -> Program:
        """The finished program, without instructions and numbers that nothing needs."""
        kept = self.kept()
        order = {old: new for new, old in enumerate(kept)}
        packed: dict[str, list[np.ndarray]] = {"bits": [np.zeros(0, np.uint8)], "reals": [np.zeros(0, np.float32)]}
        placed: dict[tuple[str, int], int] = {}
        ops = tuple(self._moved(self.ops[old], order, packed, placed) for old in kept)
        return Program(ops, np.concatenate(packed["bits"]), np.concatenate(packed["reals"]), dict(card))

    def _moved(
        self,
        op: Op,
        order: dict[int, int],
        packed: dict[str, list[np.ndarray]],
        placed: dict[tuple[str, int], int],
    ) -> Op:
        """``op`` with new value numbers and offsets; its trained numbers go to ``packed``, each run of them once."""
        inputs = [self.shapes[x] for x in op.inputs]
        changes: dict[str, Any] = {}
        for name in ("x", "y"):
            if hasattr(op, name):
                changes[name] = order[getattr(op, name)]
        if hasattr(op, "xs"):
            changes["xs"] = tuple(order[x] for x in op.xs)
        for store, needs in (("bits", op.bits(inputs)), ("reals", op.reals(inputs))):
            for field, length in needs.items():
                values = self._stores[store][getattr(op, field)]
                if len(values) != length:
                    size = f"a map of {inputs[0].dims}" if inputs else "images of so many channels"
                    raise UserError(
                        f"{op.name}: its {field} has {len(values)} numbers where {length} are needed; the module does "
                        f"not fit {size}: give the size of image that the network was made for"
                    )
                run = store, getattr(op, field)
                if run not in placed:
                    placed[run] = sum(map(len, packed[store]))
                    packed[store].append(values)
                changes[field] = placed[run]
        return replace(op, **changes)


def _crossings(curve: Curve, threshold: float, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Per channel the least float32 x with curve(x) < threshold, and the least with curve(x) >= threshold.

    The first is meant for falling curves, the second for rising ones; +inf where there is none, -inf where all are.
    """
    results = []
    for wanted in (lambda y: y < threshold, lambda y: y >= threshold):
        # Floats in the order of their size are integers in the order of their size, once negative ones are mirrored.
        most = int(np.float32(np.finfo(np.float32).max).view(np.int32))
        low, high = np.full(channels, -most - 1, np.int64), np.full(channels, most + 1, np.int64)
        while (high - low > 1).any():
            middle = (low + high) // 2
            inside = wanted(curve(_float(middle)))
            high, low = np.where(inside, middle, high), np.where(inside, low, middle)
        found = _float(np.clip(high, -most, most))
        results.append(np.where(high > most, np.inf, np.where(high <= -most, -np.inf, found)).astype(np.float32))
    return results[0], results[1]


def _float(order: np.ndarray) -> np.ndarray:
    """The float32 number at a place in the order of all finite ones; 0 is number 0."""
    magnitude = np.abs(order).astype(np.int32).view(np.float32)
    return np.where(order < 0, -magnitude, magnitude)
