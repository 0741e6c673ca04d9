"""The straight-through estimator in its general form."""

import pytest
import torch
from gradients import assert_linear, backward, random
from hypothesis import given
from hypothesis import strategies as st

from binarch.quantizers.straight_through import inside, just_above, signs, straight_through


def test_codes_forward_and_slope_backward() -> None:
    x, g = random(3, 4), random(3, 4, seed=1)
    codes, slope = random(3, 4, seed=2), random(3, 4, seed=3)
    y, gradient = backward(lambda x: straight_through(x, codes, slope), x, g)
    assert torch.equal(y, codes)
    assert torch.equal(gradient, g * slope)


@pytest.mark.parametrize("shape", [(), (4,), (3, 1)])
def test_a_slope_is_broadcast(shape: tuple[int, ...]) -> None:
    x, slope = random(3, 4), random(*shape, seed=3)
    y, gradient = backward(lambda x: straight_through(x, signs(x), slope), x, torch.ones(3, 4))
    assert y.shape == gradient.shape == x.shape
    assert torch.equal(gradient, slope.expand(3, 4))


def test_gradient_is_linear_in_the_upstream_one() -> None:
    assert_linear(lambda x: straight_through(x, signs(x), inside(x, -1, 1)), random(50))


def test_nothing_passes_to_codes_and_slope() -> None:
    x, codes, slope = (random(5, seed=seed).requires_grad_() for seed in range(3))
    given_to = torch.autograd.grad(straight_through(x, codes, slope).sum(), (x, codes, slope), allow_unused=True)
    assert given_to[1] is given_to[2] is None


def test_a_slope_of_one_over_the_scale_hands_the_gradient_through() -> None:
    x, g, scale = random(5), random(5, seed=1), torch.tensor(0.25, dtype=torch.float64)
    _, gradient = backward(lambda x: straight_through(x, signs(x), 1 / scale) * scale, x, g)
    assert torch.equal(gradient, g)


def test_inside_is_closed() -> None:
    x = torch.tensor([-1.0, 0.5, 2.0])
    ends = torch.nextafter(x[[0, 2]], torch.tensor([-9.0, 9.0]))
    assert inside(x, -1, 2).tolist() == [1.0, 1.0, 1.0]
    assert inside(ends, -1, 2).tolist() == [0.0, 0.0]
    assert inside(x.double(), -1, 2).dtype == torch.float64


def test_either_zero_is_positive() -> None:
    x = torch.tensor([-2.0, -1e-45, -0.0, 0.0, 1e-45], requires_grad=True)
    assert signs(x).tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0]
    assert not signs(x).requires_grad
    assert signs(x.bfloat16()).dtype == torch.bfloat16


@given(x=st.floats(-4, 4, width=32), y=st.floats(-4, 4, width=32))
def test_above_a_number_is_from_the_next_one_on(x: float, y: float) -> None:
    limit = torch.tensor([x])
    for number in (torch.tensor([y]), limit, just_above(limit)):
        assert torch.equal(number > limit, number >= just_above(limit))
