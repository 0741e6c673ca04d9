"""Class-balanced, seeded choices of images."""

import torch
from torch import Tensor

from binarch.data.seeds import derive_seed
from binarch.errors import UserError


def split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide indices 0..N-1 into ``(first, second)``, where ``second`` holds ``fraction`` of every class.

    ``labels`` is int64, N. Both parts are sorted, disjoint and together cover everything. Of a class with n
    images, ``second`` takes ``fraction * n`` rounded down or up, so that the total comes as near to
    ``fraction * N`` as it can; for 0 < fraction < 1 each class keeps at least one image on either side, and a
    class of one image is a :class:`UserError`. ``fraction=0.5`` gives the two halves that a search trains
    weights and architecture on.
    """
    if not 0 <= fraction <= 1:
        raise UserError(f"fraction: {fraction} is not between 0 and 1")
    everything = torch.arange(len(labels), device=labels.device)
    if fraction in (0, 1):
        return (everything, everything[:0]) if fraction == 0 else (everything[:0], everything)
    sizes = _sizes(labels)
    if bool((sizes < 2).any()):
        raise UserError("fraction: a class of one image cannot be divided; every class needs at least 2 images")
    ideal, one = fraction * sizes.double(), torch.ones_like(sizes)
    low, high = (bound.long().clamp(one, sizes - 1) for bound in (ideal.floor(), ideal.ceil()))
    total = min(max(round(fraction * len(labels)), int(low.sum())), int(high.sum()))
    second = _choose(labels, sizes, _apportion(ideal, total, low, high), derive_seed("split", seed))
    rest = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    rest[second] = False
    return everything[rest], second


def limited(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Sorted indices of exactly ``limit`` images (all, if there are fewer), each class by its share.

    ``labels`` is int64, N, at least two of each class. Every class keeps two, so that it can still be split.
    """
    if limit >= len(labels):
        return torch.arange(len(labels), device=labels.device)
    sizes = _sizes(labels)
    if limit < 2 * len(sizes):
        raise UserError(f"limit: {limit} is too few for {len(sizes)} classes; give {2 * len(sizes)} or more")
    ideal, two = limit / len(labels) * sizes.double(), torch.full_like(sizes, 2)
    return _choose(labels, sizes, _apportion(ideal, limit, two, sizes), derive_seed("limit", seed))


def _sizes(labels: Tensor) -> Tensor:
    return labels.cpu().unique(return_counts=True)[1]


def _choose(labels: Tensor, sizes: Tensor, quotas: Tensor, seed: int) -> Tensor:
    """Sorted indices of ``quotas`` images drawn at random from each class."""
    group = labels.cpu().unique(return_inverse=True)[1]
    shuffled = torch.randperm(len(group), generator=torch.Generator().manual_seed(seed))
    # A stable sort by class leaves each class together and, inside, in random order: take its first ones.
    shuffled = shuffled[group[shuffled].argsort(stable=True)]
    rank = torch.arange(len(group)) - (sizes.cumsum(0) - sizes)[group[shuffled]]
    return shuffled[rank < quotas[group[shuffled]]].sort().values.to(labels.device)


def _apportion(ideal: Tensor, total: int, low: Tensor, high: Tensor) -> Tensor:
    """Whole numbers near ``ideal``, each in ``low .. high``, with the sum ``total``.

    The method of largest remainders: round down, then hand the missing ones to those who are furthest behind.
    """
    quotas = ideal.floor().long().clamp(low, high)
    while missing := total - int(quotas.sum()):
        behind = ideal - quotas
        if missing > 0:
            quotas[behind.masked_fill(quotas >= high, -torch.inf).argmax()] += 1
        else:
            quotas[behind.masked_fill(quotas <= low, torch.inf).argmin()] -= 1
    return quotas
