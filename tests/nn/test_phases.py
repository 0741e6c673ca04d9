"""The four phases of a map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from binarch.nn import merge_phases, split_phases
from binarch.nn.phases import pixels


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    channels_last=st.booleans(),
)
def test_merge_undoes_split(shape: tuple[int, int, int, int], channels_last: bool) -> None:
    n, c, h, w = shape
    x = torch.randn(shape)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    phases = split_phases(x)
    assert phases.shape == (4 * n, c, -(-h // 2), -(-w // 2))
    assert torch.equal(merge_phases(phases, h, w), x)


def test_phases_are_the_strided_maps_in_order() -> None:
    x = torch.randn(2, 3, 6, 8)
    expected = [x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    assert torch.equal(split_phases(x), torch.cat(expected))
    assert split_phases(x).is_contiguous(memory_format=torch.channels_last)


def test_odd_sizes_are_filled_up_with_zeros() -> None:
    phases = split_phases(torch.ones(1, 1, 3, 3))
    assert [phase.sum().item() for phase in phases] == [4, 2, 2, 1]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("start, step", [(0, 2), (1, 1), (1, 2)])
def test_pixels_are_a_slice_whose_gradient_keeps_the_format(
    start: int, step: int, memory_format: torch.memory_format
) -> None:
    x = torch.randn(2, 8, 5, 6).to(memory_format=memory_format).requires_grad_()
    found, gradients = [], []
    for y in (pixels(x, start, step), x[..., start::step, start::step]):
        found.append(y)
        gradients += torch.autograd.grad(y.square().sum(), x)
    assert torch.equal(*found)
    assert torch.equal(*gradients)
    assert gradients[0].is_contiguous(memory_format=memory_format)
