"""Random cells: the baseline that every search must beat.

Draws ``candidates`` cells uniformly and lets short trainings rank them. With the budget of a gradient search spent on
that ranking it is a strong baseline: it chooses, too.
"""

import torch

from binarch.data import Dataset, derive_seed
from binarch.runs import RunFolder
from binarch.search.config import SearchConfig
from binarch.search.derive import random_genotype
from binarch.search.executor import Executor
from binarch.search.strategy import Strategy
from binarch.spaces import Genotype
from binarch.training import Display


def propose(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, executor: Executor
) -> dict[str, Genotype]:
    """``candidates`` draws for each seed."""
    found = {}
    for seed in config.seed:
        generator = torch.Generator().manual_seed(derive_seed(seed, "random cells"))
        for index in range(config.candidates):
            found[f"seed-{seed}-cell-{index}"] = random_genotype(config.build_space().rules, generator)
    return found


RANDOM = Strategy("random", "random cells ranked by short training: the baseline to beat", propose)
