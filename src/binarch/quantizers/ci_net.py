"""CI-BCNN (Wang et al., 2019): channels of one layer that correct each other's bit counts.

Weights and activations are signs in a closed window (:class:`~binarch.quantizers.ClosedSign`), without a scale; latent
weights are not clipped. Sure: read in the public code, where sign(0) = 0; +1 here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers.base import Correction

#: A teacher speaks where its count reaches +-THRESHOLD; its student's count then moves by STEP.
THRESHOLD, STEP = 200, 100
#: Edges in one layer, as in the public code.
MOST_EDGES = 100


@final
@dataclass(frozen=True)
class Edge:
    """One interaction: the count of channel ``teacher`` corrects that of ``student``, in the direction of ``sign``."""

    teacher: int
    student: int
    sign: int

    def __post_init__(self) -> None:
        if self.teacher == self.student or self.sign not in (-1, 1):
            raise UserError(f"edge: {self} is not possible; use two different channels and a sign of -1 or 1")


def correction(count: Tensor, sign: Tensor | int, threshold: int, step: int) -> Tensor:
    r"""What teachers' counts add to their students', for edges of ``sign`` +1 or -1 (broadcast against the counts).

    :math:`U(F) = \pm s\,(1_{F \ge t} - 1_{F \le -t})`. The public code has a plus between the indicators for negative
    edges, so that both tails push downwards there.
    """
    high, low = (count >= threshold).to(count.dtype), (count <= -threshold).to(count.dtype)
    return step * sign * (high - low)


def rounds(edges: Sequence[Edge]) -> list[list[Edge]]:
    """The edges in order, cut where a teacher was a student before: within a round the order does not matter."""
    found: list[list[Edge]] = []
    for edge in edges:
        if not found or any(edge.teacher == earlier.student for earlier in found[-1]):
            found.append([])
        found[-1].append(edge)
    return found


@final
class Interaction(Correction):
    r"""Corrects integer counts (N, C, H, W) edge by edge.

    Forward, for every edge (t, s, sign) in order: :math:`F_s \leftarrow F_s + U(F_t)` (:func:`correction`); a teacher
    that was corrected before passes its corrected count. Backward: identity to :math:`F_s`, nothing to :math:`F_t`.
    Counts stay integers. Edges are found by policy gradient (``binarch.training.mining``); with none of them this is
    the identity. ``table`` (:data:`MOST_EDGES`, 3) holds them, an empty place having the sign 0.

    Differs from the public code in the sign of one term (:func:`correction`), and in the threshold: it is 200 there in
    every layer of one network; here it is given, since counts grow with the number of inputs.
    """

    table: Tensor

    def __init__(self, threshold: int = THRESHOLD, step: int = STEP) -> None:
        super().__init__()
        self.threshold, self.step = threshold, step
        self.register_buffer("table", torch.zeros(MOST_EDGES, 3, dtype=torch.int32))

    @property
    def edges(self) -> list[Edge]:
        """The edges in order."""
        return [Edge(*row) for row in self.table.tolist() if row[2]]

    def set_edges(self, edges: Sequence[Edge]) -> None:
        """Replace the edges."""
        if len(edges) > MOST_EDGES:
            raise UserError(f"edges: {len(edges)} are too many; {MOST_EDGES} at most")
        rows = [[edge.teacher, edge.student, edge.sign] for edge in edges]
        rows += [[0, 0, 0]] * (MOST_EDGES - len(rows))
        self.table.copy_(torch.tensor(rows, dtype=torch.int32))

    def forward(self, counts: Tensor, x: Tensor) -> Tensor:
        """Correct the counts; ``x`` is not needed."""
        delta = torch.zeros_like(counts)
        for part in rounds(self.edges):
            seen = counts.detach() + delta
            teachers, students, sign = (torch.tensor(column, device=counts.device) for column in columns(part))
            said = correction(seen[:, teachers], sign.view(1, -1, 1, 1), self.threshold, self.step)
            delta.index_add_(1, students, said.to(delta.dtype))
        return counts + delta


def columns(edges: Sequence[Edge]) -> tuple[list[int], list[int], list[int]]:
    """Teachers, students and signs."""
    return [e.teacher for e in edges], [e.student for e in edges], [e.sign for e in edges]
