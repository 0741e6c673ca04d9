"""The auxiliary skip (DARTS-minus, Chu et al., ICLR 2021).

A skip helps a supernet train whatever it is worth in a cell, and wins weight for that. So every mixed operation gets a
second skip whose weight is given and not learned; it does the helping and leaves the candidate skip to be judged as an
operation. Its weight falls to 0, and the derived cell has none.

At stride 2 it is the space's factorized reduction, with filters of its own. Dropout on skips (P-DARTS) does not touch
it. Of the published schedules this is the linear one.
"""

#: What the auxiliary skip is called beside the candidates of an edge.
AUXILIARY_SKIP = "auxiliary_skip"


def auxiliary_skip_rate(epoch: int, epochs: int) -> float:
    r"""Its weight in an epoch of a stage, :math:`\beta = 1 - e / E`: 1 in the first, 1 / E in the last."""
    return 1 - epoch / epochs
