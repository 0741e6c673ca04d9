"""Random cells of a found cell's size: what a search must beat."""

import torch

from binarch.data import derive_seed
from binarch.models import Architecture, NetworkConfig
from binarch.search import mutate_genotype, random_genotype
from binarch.spaces import Genotype

#: A twin's parameters differ from the found cell's by this share at most, if that is to be had.
TOLERANCE = 0.02
#: Mutations that are tried.
TRIES = 400


def parameters(arch: Architecture, network: NetworkConfig, classes: int = 10) -> int:
    """Parameters of the real-valued network, the auxiliary head left out; nothing is computed."""
    with torch.device("meta"):
        built = network.build(arch, classes, "none")
    return sum(p.numel() for name, p in built.named_parameters() if not name.startswith("auxiliary."))


def twin(genotype: Genotype, network: NetworkConfig, name: str, seed: int) -> Genotype:
    """A random genotype whose network has as many parameters as ``genotype``'s, within :data:`TOLERANCE`.

    Random cells differ in size, and size alone is worth accuracy; so a search is compared with random cells of equal
    size. A uniform draw walks by random mutations, of which those are kept that bring it nearer to the size, until it
    is near enough. ``name`` and ``seed`` fix the walk.
    """
    rules = network.build_space("none").rules
    generator = torch.Generator().manual_seed(derive_seed(seed, "twin", name))
    target = parameters(genotype, network)

    def distance(other: Genotype) -> float:
        return abs(parameters(other, network) - target) / target

    nearest = random_genotype(rules, generator)
    gap = distance(nearest)
    for _ in range(TRIES):
        if gap <= TOLERANCE:
            break
        other = mutate_genotype(nearest, rules, generator)
        if (found := distance(other)) < gap:
            nearest, gap = other, found
    return nearest
