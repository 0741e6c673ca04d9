"""Class-balanced, seeded choices of images."""

import torch
from torch import Tensor

from binarch.data.seeds import derive_seed
from binarch.errors import UserError


def split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide indices 0..N-1 into ``(first, second)``, where ``second`` holds ``fraction`` of every class.

    ``labels`` is int64, N. Both parts are sorted, disjoint and together cover everything. Of a class with n
    images, ``second`` takes ``fraction * n`` rounded down or up, such that the total is ``fraction * N``
    rounded; for 0 < fraction < 1 each class keeps at least one image on either side, and a class of one image
    is a :class:`UserError`. ``fraction=0.5`` gives the two halves that a search trains weights and
    architecture on.
    """
    if not 0 <= fraction <= 1:
        raise UserError(f"fraction: {fraction} is not between 0 and 1")
    count = len(labels)
    everything = torch.arange(count, device=labels.device)
    if fraction in (0, 1):
        return (everything, everything[:0]) if fraction == 0 else (everything[:0], everything)
    sizes = labels.unique(return_counts=True)[1]
    if bool((sizes < 2).any()):
        raise UserError(
            "fraction: a class of one image cannot be divided; every class needs at least 2 images"
        )
    total = min(max(round(fraction * count), len(sizes)), count - len(sizes))
    second = _choose(labels, fraction, total, derive_seed("split", seed), least=1, spare=1)
    rest = torch.ones(count, dtype=torch.bool, device=labels.device)
    rest[second] = False
    return everything[rest], second


def limited(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Sorted indices of exactly ``limit`` images (all, if there are fewer), each class by its share.

    Every class keeps at least two images, so that it can still be split.
    """
    classes = len(labels.unique())
    if limit >= len(labels):
        return torch.arange(len(labels), device=labels.device)
    if limit < 2 * classes:
        raise UserError(f"limit: {limit} is too few for {classes} classes; give {2 * classes} or more")
    return _choose(labels, limit / len(labels), limit, derive_seed("limit", seed), least=2, spare=0)


def _choose(labels: Tensor, fraction: float, total: int, seed: int, least: int, spare: int) -> Tensor:
    """Sorted indices of ``total`` images drawn at random, about ``fraction`` of each class."""
    _, group, sizes = labels.cpu().unique(return_inverse=True, return_counts=True)
    quotas = _apportion(sizes, fraction, total, least, spare)
    shuffled = torch.randperm(len(group), generator=torch.Generator().manual_seed(seed))
    # A stable sort by class leaves each class together and, inside, in random order: take its first ones.
    shuffled = shuffled[group[shuffled].argsort(stable=True)]
    rank = torch.arange(len(group)) - (sizes.cumsum(0) - sizes)[group[shuffled]]
    return shuffled[rank < quotas[group[shuffled]]].sort().values.to(labels.device)


def _apportion(sizes: Tensor, fraction: float, total: int, least: int, spare: int) -> Tensor:
    """Whole numbers near ``fraction * sizes`` with the given sum, each in ``least .. size - spare``.

    The method of largest remainders: round down, then hand the missing ones to those who are furthest behind.
    """
    ideal, most = fraction * sizes.double(), sizes - spare
    quotas = ideal.floor().long().clamp(min=least).minimum(most)
    while missing := total - int(quotas.sum()):
        behind = ideal - quotas
        if missing > 0:
            quotas[behind.masked_fill(quotas >= most, -torch.inf).argmax()] += 1
        else:
            quotas[behind.masked_fill(quotas <= least, torch.inf).argmin()] -= 1
    return quotas
