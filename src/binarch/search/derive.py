"""From mixture weights to a genotype, and to fewer candidates."""

import torch
from torch import Tensor

from binarch.search.operations import EdgeOperations
from binarch.spaces import Cell, CellRules, Edge, Genotype

#: Primitives without filters (at stride 1): where a collapsed search ends.
PARAMETER_FREE = ("max_pool_3x3", "max_pool_5x5", "max_pool_7x7", "avg_pool_3x3", "skip_connect")


def derive_cell(weights: Tensor, operations: EdgeOperations, max_skips: int | None = None) -> Cell:
    """Discretize one cell (DARTS): two different edges per node, one operation per edge; all nodes make the output.

    An edge is worth its largest weight over all candidates but ``none``; a node keeps its two best edges, each with
    that candidate. ``none`` takes part in the softmax only. Ties go to the smaller source and the earlier candidate.

    With ``max_skips`` (P-DARTS): while the cell has more skip connections, the weakest one among those kept is set to
    zero and the cell is derived anew. Where a node's edges carry nothing else, a skip stays beyond the limit.
    """
    table = weights.detach().cpu().double().clone()
    while True:
        cell, kept = _strongest(table, operations)
        skips = [edge for edge in kept if _best(table, operations, edge)[1] == "skip_connect"]
        columns = {edge: operations.names[edge].index("skip_connect") for edge in skips}
        left = [edge for edge in skips if table[edge, columns[edge]] >= 0]
        if max_skips is None or len(skips) <= max_skips or not left:
            return cell
        weakest = min(left, key=lambda edge: float(table[edge, columns[edge]]))
        table[weakest, columns[weakest]] = -1.0


def _best(table: Tensor, operations: EdgeOperations, edge: int) -> tuple[float, str]:
    choices = [(float(w), name) for w, name in zip(table[edge], operations.names[edge], strict=True) if name != "none"]
    return max(choices, key=lambda choice: choice[0])


def _strongest(table: Tensor, operations: EdgeOperations) -> tuple[Cell, list[int]]:
    nodes, kept = [], []
    for node in range(2, operations.nodes + 2):
        incoming = [edge for edge, (_, target) in enumerate(operations.ends) if target == node]
        ranked = sorted(incoming, key=lambda edge: -_best(table, operations, edge)[0])[:2]
        chosen = sorted(ranked)
        kept += chosen
        first, second = (Edge(_best(table, operations, e)[1], operations.ends[e][0]) for e in chosen)
        nodes.append((first, second))
    return Cell(tuple(nodes), tuple(range(2, operations.nodes + 2))), kept


def shrink(weights: Tensor, operations: EdgeOperations, keep: int) -> EdgeOperations:
    """Keep the ``keep`` strongest candidates of every edge, in their order; ``none`` competes like any other."""
    order = weights.detach().cpu().argsort(dim=1, descending=True, stable=True)[:, :keep]
    names = tuple(tuple(ops[i] for i in sorted(row.tolist())) for ops, row in zip(operations.names, order, strict=True))
    return EdgeOperations(operations.nodes, names)


def one_hot(cell: Cell, operations: EdgeOperations, like: Tensor) -> Tensor:
    """The mixture weights of a derived cell: one on each kept (edge, operation), zero elsewhere."""
    table = torch.zeros_like(like)
    for node, edges in enumerate(cell.nodes, start=2):
        for edge in edges:
            row = operations.ends.index((edge.source, node))
            table[row, operations.names[row].index(edge.primitive)] = 1.0
    return table


def entropy(weights: Tensor) -> float:
    """Mean over edges of -sum p log p, in nats."""
    return float(torch.special.entr(weights.detach().double()).sum(1).mean())


def parameter_free(cell: Cell) -> float:
    """The collapse gauge: which share of the derived edges carries a pool or a skip."""
    return sum(edge.primitive in PARAMETER_FREE for edge in cell.edges) / len(cell.edges)


def random_genotype(rules: CellRules, generator: torch.Generator) -> Genotype:
    """A uniform draw: for every node two sources as ``rules`` has them, for every edge any candidate but ``none``."""

    def draw(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    def cell() -> Cell:
        drawn = []
        for node in range(2, rules.nodes + 2):
            pair = [draw(node), draw(node)] if rules.repeats else torch.randperm(node, generator=generator)[:2].tolist()
            first, second = (Edge(rules.operations[draw(len(rules.operations))], source) for source in sorted(pair))
            drawn.append((first, second))
        return rules.cell(drawn)

    return Genotype(cell(), cell())
