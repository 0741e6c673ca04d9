"""P-DARTS (Chen, Xie, Wu and Tian, ICCV 2019): DARTS of first order in stages that grow deeper and narrower.

Each stage has a new supernet: deeper (``cells``), with fewer candidates per edge (``keep``) and more dropout on its
skips (``skip_dropout``); the derived normal cell keeps a few skips only (``max_skips``). The recipe ``pdarts`` holds
the published settings. Ours differs in what the search network's batch norms remember (see docs/architecture.md), and
in the clip of the alphas' gradient, which is left out.
"""

from binarch.search.differentiable import propose
from binarch.search.strategy import Strategy

PDARTS = Strategy("pdarts", "first-order search in stages: deeper, fewer candidates (P-DARTS, 2019)", propose)
