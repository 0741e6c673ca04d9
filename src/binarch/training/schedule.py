"""Learning rates over time."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, final

from binarch.errors import UserError

Kind = Literal["cosine", "linear", "exponential", "steps"]
_ALLOWED = "use cosine, linear, exponential:FACTOR, or steps:FACTOR@SHARE,SHARE (e.g. steps:0.1@0.5,0.75)"


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1): Loshchilov and Hutter, 2017, no restarts."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@final
@dataclass(frozen=True)
class Schedule:
    """How a rate falls. Cosine and linear end at 0; exponential at ``factor`` times the first rate; steps multiplies by
    it at each of the ``milestones``, which are shares of the stage.
    """

    kind: Kind
    factor: float = 1.0
    milestones: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read ``cosine``, ``linear``, ``exponential:0.002`` or ``steps:0.1@0.5,0.75``."""
        kind, _, numbers = text.partition(":")
        factor, _, shares = numbers.partition("@")
        takes = {
            "cosine": (False, False),
            "linear": (False, False),
            "exponential": (True, False),
            "steps": (True, True),
        }
        found = None
        if takes.get(kind) == (bool(factor), bool(shares)):
            with suppress(ValueError):
                milestones = tuple(float(share) for share in shares.split(",")) if shares else ()
                found = cls(kind, float(factor or 1), milestones)  # type: ignore[arg-type]
        if found is None or not 0 < found.factor <= 1 or not all(0 < share < 1 for share in found.milestones):
            raise UserError(f"schedule: {text!r} is not possible; {_ALLOWED}")
        return found

    def at(self, start: float, progress: float) -> float:
        """The rate at ``progress`` (0 to 1) of a stage that begins at ``start``.

        Linear: start (1 - p). Exponential: start factor^p. Steps: start factor^k behind k of the milestones.
        """
        match self.kind:
            case "cosine":
                return cosine(start, 0.0, progress)
            case "linear":
                return start * (1 - progress)
            case "exponential":
                return start * self.factor**progress
            case "steps":
                return start * self.factor ** sum(progress >= milestone for milestone in self.milestones)
