"""The permutation test of a difference of means."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final, final

import numpy as np

#: Most splits that are all looked at, and the size of the sample where there are more.
SPLITS: Final = 100_000
_AT_ONCE: Final = 1_000


@final
@dataclass(frozen=True)
class Permutation:
    """How rare a difference of means is if the labels of the two groups say nothing."""

    p: float
    """Share of splits whose difference is at least as large, in either direction."""
    splits: int
    """How many there are."""
    exact: bool
    """Whether all of them were looked at, or a seeded sample of :data:`SPLITS`."""
    smallest: float
    """The least p that groups of these sizes can have: one split, or two where they are equally large."""


def permutation_test(one: Sequence[float], other: Sequence[float]) -> Permutation:
    r"""Two-sided test of :math:`\bar x - \bar y` over all ways to split the numbers into groups of these sizes.

    :math:`p = \#\{\text{splits} : |\bar x' - \bar y'| \ge |\bar x - \bar y|\} / \binom{n + m}{n}`. In a sample of
    splits, one is added to both counts, for the split that was seen, so that p is never 0. Fisher (1935). Nothing is
    assumed of how the numbers are distributed, only that either label could have been any number's.
    """
    if not one or not other:
        raise ValueError("a group is empty")
    numbers = np.array([*one, *other], dtype=np.float64)
    n, k = len(numbers), len(one)
    splits = comb(n, k)
    # With numbers centred, the difference of means is a multiple of the first group's sum.
    centred = numbers - numbers.mean()
    least = abs(centred[:k].sum()) - 1e-12 * np.abs(numbers).sum()  # rounding must not part equal differences
    smallest = min(1.0, (2 if n == 2 * k else 1) / splits)
    if splits <= SPLITS:
        chosen = np.array(list(combinations(range(n), k)))
        hits = int((np.abs(centred[chosen].sum(1)) >= least).sum())
        return Permutation(hits / splits, splits, True, smallest)
    chance = np.random.default_rng(0)
    hits = 0
    for _ in range(0, SPLITS, _AT_ONCE):
        chosen = chance.random((_AT_ONCE, n)).argsort(1)[:, :k]
        hits += int((np.abs(centred[chosen].sum(1)) >= least).sum())
    return Permutation((hits + 1) / (SPLITS + 1), splits, False, smallest)
