"""The genotype: what a search finds, and all that is needed to build the network again.

A cell is a small graph. States 0 and 1 are the outputs of the cell before the last (c_{k-2}) and of the last
cell (c_{k-1}); every later state is a node that adds two edges; an edge applies one primitive to an earlier
state. The cell's output is the channel concatenation of the states listed in ``concat``. A network repeats two
cells: ``normal`` keeps the resolution, ``reduce`` halves it (Liu et al., DARTS, ICLR 2019, section 2.1).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binarch.errors import UserError
from binarch.runs import read_json

SCHEMA_VERSION = 1

#: Every primitive that a genotype may name; a space builds those that it knows.
PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
    "conv_1x3_3x1",
    "conv_1x1",
    "conv_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
)


@dataclass(frozen=True)
class Edge:
    """One primitive applied to one earlier state."""

    primitive: str
    source: int


@dataclass(frozen=True)
class Cell:
    """Nodes of two edges each (node ``k`` is state ``k + 2``), and the states that make the output."""

    nodes: tuple[tuple[Edge, Edge], ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise UserError("genotype: a cell has no nodes; it needs at least one")
        for state, edges in enumerate(self.nodes, start=2):
            if len(edges) != 2:
                raise UserError(f"genotype: node {state} has {len(edges)} edges; every node has 2")
            for edge in edges:
                if edge.primitive not in PRIMITIVES:
                    known = ", ".join(PRIMITIVES)
                    raise UserError(f"genotype: node {state}: {edge.primitive!r} is no primitive; known: {known}")
                if not 0 <= edge.source < state:
                    raise UserError(f"genotype: node {state}: source {edge.source} is not in 0..{state - 1}")
        last = len(self.nodes) + 1
        if not self.concat or any(not 0 <= state <= last for state in self.concat):
            raise UserError(f"genotype: concat {list(self.concat)} must name states in 0..{last}, at least one")
        if len(set(self.concat)) != len(self.concat):
            raise UserError(f"genotype: concat {list(self.concat)} names a state twice")

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, node by node."""
        return tuple(edge for node in self.nodes for edge in node)

    @property
    def depth(self) -> int:
        """Edges on the longest path from an input to a node of the output.

        The measure behind the supplement's remark that binary cells are shallower (section C).
        """
        depth = [0, 0]
        for edges in self.nodes:
            depth.append(1 + max(depth[edge.source] for edge in edges))
        return max(depth[state] for state in self.concat)

    def count(self, prefix: str) -> int:
        """How many edges carry a primitive whose name starts with ``prefix``."""
        return sum(edge.primitive.startswith(prefix) for edge in self.edges)


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell. Frozen, hashable, printable; JSON with a schema version."""

    normal: Cell
    reduce: Cell

    def to_json(self) -> str:
        """The genotype as JSON text, one node per line."""
        return json.dumps(self.to_dict()) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The genotype as plain containers (the JSON schema is ``genotype.schema.json``)."""
        return {
            "schema": SCHEMA_VERSION,
            **{
                name: {
                    "nodes": [[[edge.primitive, edge.source] for edge in node] for node in cell.nodes],
                    "concat": list(cell.concat),
                }
                for name, cell in (("normal", self.normal), ("reduce", self.reduce))
            },
        }

    @staticmethod
    def from_dict(value: object) -> "Genotype":
        """Build and validate a genotype from plain containers; any flaw is a :class:`UserError`."""
        if not isinstance(value, Mapping):
            raise UserError(f"genotype: an object is expected, not {type(value).__name__}")
        if value.get("schema") != SCHEMA_VERSION or type(value["schema"]) is not int:
            raise UserError(
                f"genotype: schema {value.get('schema')!r} is unknown; this version reads schema {SCHEMA_VERSION}"
            )
        extra = set(value) - {"schema", "normal", "reduce"}
        if extra:
            raise UserError(f"genotype: unknown field {min(map(str, extra))!r}; allowed: schema, normal, reduce")
        return Genotype(_cell(value, "normal"), _cell(value, "reduce"))

    @staticmethod
    def load(path: Path) -> "Genotype":
        """Read a genotype file."""
        try:
            return Genotype.from_dict(read_json(path))
        except UserError as error:
            raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _cell(value: Mapping[str, Any], name: str) -> Cell:
    cell = value.get(name)
    if not isinstance(cell, Mapping) or set(cell) != {"nodes", "concat"}:
        raise UserError(f"genotype: {name!r} must be an object with 'nodes' and 'concat'")
    try:
        nodes = tuple(tuple(Edge(_text(op), _index(source)) for op, source in node) for node in cell["nodes"])
        concat = tuple(_index(state) for state in cell["concat"])
    except (TypeError, ValueError):
        raise UserError(
            f"genotype: {name!r}: nodes must be lists of two [primitive, source] pairs, concat a list of integers"
        ) from None
    return Cell(nodes, concat)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _index(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(value)
    return value
