"""What a cell of a space may be, apart from what its primitives compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from binarch.spaces.genotype import Cell, Edge


@final
@dataclass(frozen=True)
class CellRules:
    """The cells among which a search chooses; strategies ask these rules, so that they fit every space."""

    candidates: tuple[str, ...]
    """What may stand on an edge, in the order of the architecture parameters."""
    nodes: int = 4
    """How many nodes a cell has."""
    repeats: bool = False
    """Whether both edges of a node may read the same state (NASNet); DARTS has two different ones."""
    loose_ends: bool = False
    """Whether the output is made of the nodes that no other node reads (NASNet), instead of all nodes (DARTS)."""

    @property
    def operations(self) -> tuple[str, ...]:
        """What may stand on an edge of a cell that was found: the candidates without ``none``."""
        return tuple(name for name in self.candidates if name != "none")

    def sources(self, node: int, kept: int, old: int) -> list[int]:
        """The states that an edge of ``node`` may read in the place of ``old`` while the other edge reads ``kept``."""
        return [state for state in range(node) if state != old and (self.repeats or state != kept)]

    def cell(self, nodes: Sequence[tuple[Edge, Edge]]) -> Cell:
        """The cell of these nodes, with the output that the rules give it.

        Where loose ends are the output, an input that no node reads is no part of it: the last node always is.
        """
        read = {edge.source for node in nodes for edge in node} if self.loose_ends else set()
        return Cell(tuple(nodes), tuple(state for state in range(2, len(nodes) + 2) if state not in read))
