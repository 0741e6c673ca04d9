"""BATS: gradient search with a sharpened softmax, binary activations while searching.

Bulat, Martinez and Tzimiropoulos, ECCV 2020. The authors never released their search; what the supplement states is
kept (temperature, the space, training in two stages afterwards), the rest is ours and told in docs/architecture.md:

- the mixture is softmax(alpha / tau) with tau below 1, so that one operation per edge dominates early and little is
  lost when the others are cut;
- while searching, activations carry one bit and filters are real (``binarize`` may say otherwise);
- optionally the stages of P-DARTS (``keep``, ``cells``) and its limit on skips (``max_skips``).
"""

from binarch.search.differentiable import propose
from binarch.search.strategy import Strategy

BATS = Strategy("bats", "gradient search with softmax temperature and binary activations (BATS, 2020)", propose)
