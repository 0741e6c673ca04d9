"""Which operations stand on which edge of a supernet's cell."""

from dataclasses import dataclass
from typing import final

from binarch.errors import UserError
from binarch.spaces import CellRules


@final
@dataclass(frozen=True)
class EdgeOperations:
    """The candidates of every edge of a cell: ``names[edge]`` is a tuple of primitives.

    Edges are ordered by target, then by source: 0->2, 1->2, 0->3, 1->3, 2->3, ... All edges carry the same number of
    candidates (P-DARTS drops the same number everywhere), so architecture parameters are one matrix.
    """

    nodes: int
    names: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ends):
            raise UserError(f"operations: {len(self.names)} edges for {self.nodes} nodes; {len(self.ends)} are needed")
        if len({len(names) for names in self.names}) != 1 or not self.names[0]:
            raise UserError("operations: every edge must carry the same number of candidates, at least one")

    @staticmethod
    def full(rules: CellRules) -> "EdgeOperations":
        """Every candidate of a space on every edge."""
        return EdgeOperations(rules.nodes, (rules.candidates,) * (rules.nodes * (rules.nodes + 3) // 2))

    @property
    def ends(self) -> tuple[tuple[int, int], ...]:
        """(source, target) of each edge; states 0 and 1 are the cell's inputs."""
        return tuple((source, target) for target in range(2, self.nodes + 2) for source in range(target))

    @property
    def width(self) -> int:
        """Candidates per edge."""
        return len(self.names[0])
