import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from binarch.data import split
from binarch.data.partition import limited
from binarch.errors import UserError

sizes_of_classes = st.lists(st.integers(2, 40), min_size=1, max_size=8)


def shuffled(sizes: list[int]) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


@example([2, 33], 0.125, 0)  # the one image that the small class must give is not taken from the large one
@given(sizes_of_classes, st.floats(0, 1), st.integers(0, 2**40))
def test_split_covers_without_overlap_and_keeps_the_share_of_each_class(sizes, fraction, seed) -> None:
    labels = shuffled(sizes)
    first, second = split(labels, fraction, seed)
    assert torch.equal(torch.cat([first, second]).sort().values, torch.arange(len(labels)))
    assert torch.equal(first, first.sort().values)
    assert torch.equal(second, second.sort().values)
    counts = torch.bincount(labels[second], minlength=len(sizes))
    for size, count in zip(sizes, counts.tolist(), strict=True):
        assert abs(count - fraction * size) <= 1 + 1e-9
        if 0 < fraction < 1:
            assert 1 <= count <= size - 1
    assert abs(len(second) - fraction * len(labels)) <= len(sizes)


def test_rounding_does_not_drift_over_many_odd_classes() -> None:
    labels = torch.arange(100).repeat(5)
    assert len(split(labels, 0.5, 0)[1]) == 250


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    labels = torch.arange(10).repeat(50)
    again, other = split(labels, 0.5, 4)[1], split(labels, 0.5, 5)[1]
    assert torch.equal(split(labels, 0.5, 4)[1], again)
    assert not torch.equal(again, other)


def test_every_image_can_be_chosen() -> None:
    labels = torch.arange(2).repeat(5)
    chosen = torch.cat([split(labels, 0.2, seed)[1] for seed in range(200)])
    assert int(torch.bincount(chosen, minlength=10).min()) > 15  # 40 expected of each


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match="fraction"):
        split(torch.arange(2).repeat(5), fraction, 0)


def test_class_of_one_image_cannot_be_divided() -> None:
    with pytest.raises(UserError, match="at least 2"):
        split(torch.tensor([0, 0, 1]), 0.5, 0)


@given(sizes_of_classes, st.integers(16, 400), st.integers(0, 99))
def test_limited_gives_exactly_the_limit_by_share(sizes, limit, seed) -> None:
    labels = shuffled(sizes)
    chosen = limited(labels, limit, seed)
    assert len(chosen) == len(chosen.unique()) == min(limit, len(labels))
    assert int(torch.bincount(labels[chosen], minlength=len(sizes)).min()) >= 2


def test_limit_below_two_per_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"limit: 19 .* 20"):
        limited(torch.arange(10).repeat(50), 19, 0)
