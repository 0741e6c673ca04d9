"""BATS: gradient search with a sharpened softmax, binary activations while searching.

Bulat, Martinez and Tzimiropoulos, ECCV 2020. The authors never released their search; what the supplement states is
kept (temperature, the space, training in two stages afterwards), the rest is ours and stated in the README:

- the mixture is softmax(alpha / tau) with tau below 1, so that one operation per edge dominates early and little is
  lost when the others are cut;
- while searching, activations carry one bit and filters are real (``binarize`` may say otherwise);
- optionally the stages of P-DARTS (``keep``, ``cells``) and its limit on skips (``max_skips``).
"""

from binarch.data import Dataset
from binarch.runs import RunFolder
from binarch.search.config import SearchConfig
from binarch.search.differentiable import search_gradient
from binarch.search.strategy import Strategy
from binarch.spaces import Genotype
from binarch.training import Display


def propose(config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display) -> dict[str, Genotype]:
    """One genotype per seed."""
    return {
        f"seed-{seed}": search_gradient(config, seed, dataset, folder.child(f"seed-{seed}"), display)
        for seed in config.seed
    }


BATS = Strategy("bats", "gradient search with softmax temperature and binary activations (BATS, 2020)", propose)
