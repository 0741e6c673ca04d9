"""Random cells of a found cell's size: what a search must beat."""

import torch

from binarch.data import derive_seed
from binarch.models import NetworkConfig
from binarch.search import random_genotype
from binarch.spaces import Genotype

#: Random cells among which the one closest in size is taken.
DRAWS = 64


def parameters(genotype: Genotype, network: NetworkConfig, classes: int = 10) -> int:
    """Parameters of a network of these cells, the auxiliary head left out; nothing is computed."""
    with torch.device("meta"):
        built = network.build(genotype, classes, "none")
    return sum(p.numel() for name, p in built.named_parameters() if not name.startswith("auxiliary."))


def twin(genotype: Genotype, network: NetworkConfig, name: str, seed: int) -> Genotype:
    """The one of :data:`DRAWS` random genotypes whose network has most nearly as many parameters as ``genotype``'s.

    Random cells differ in size, and size alone is worth accuracy; so a search is compared with random cells of equal
    size. ``name`` and ``seed`` fix the draws.
    """
    candidates = network.build_space("none").candidates
    generator = torch.Generator().manual_seed(derive_seed(seed, "twin", name))
    target = parameters(genotype, network)
    drawn = [random_genotype(candidates, generator) for _ in range(DRAWS)]
    return min(drawn, key=lambda other: abs(parameters(other, network) - target))
