"""BNN: signs of activations, a closed window."""

import torch
from gradients import assert_linear, backward, random, slopes, tensor

from binarch.quantizers import ClosedSign, Sign, StochasticSign, ap2

X = [-1.5, -1, -0.2, 0, 0.2, 1, 1.5]


def test_fixed_activations() -> None:
    y, gradient = backward(ClosedSign(), X, [1, 2, 3, 4, 5, 6, 7])
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    assert gradient.tolist() == [0, 2, 3, 4, 5, 6, 0]
    assert slopes(Sign(), X).tolist() == [0, 0, 1, 1, 1, 0, 0]  # the open window of others


def test_the_window_ends_right_behind_one() -> None:
    beyond = torch.nextafter(torch.ones((), dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)).item()
    assert slopes(ClosedSign(), [-beyond, -1, 1, beyond]).tolist() == [0, 1, 1, 0]


def test_gradient_on_random_numbers() -> None:
    x, g = random(1000), random(1000, seed=1)
    assert torch.equal(backward(ClosedSign(), x, g)[1], g * (x.abs() <= 1))
    assert_linear(ClosedSign(), x)


def test_signs_stay_what_they_are() -> None:
    once = ClosedSign()(random(100))
    assert torch.equal(ClosedSign()(once), once)
    assert once.unique().tolist() == [-1, 1]
    assert ClosedSign()(tensor([0.0, -0.0])).tolist() == [1, 1]


def test_ap2_of_the_specification() -> None:
    found = ap2(torch.tensor([3.0, 2.8, -0.7, 0.0, 1.0, -8.0]))
    assert found.tolist() == [4.0, 2.0, -0.5, 0.0, 1.0, -8.0]


def test_random_signs_are_right_on_average_and_fixed_in_evaluation() -> None:
    torch.manual_seed(0)
    quantizer = StochasticSign()
    x = torch.tensor([-1.5, -1.0, -0.4, 0.0, 0.5, 1.0, 2.0]).repeat(40_000, 1).requires_grad_()
    drawn = quantizer(x)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert (drawn.mean(0) - x[0].clamp(-1, 1)).abs().max() < 0.02
    drawn.sum().backward()
    assert x.grad[0].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert quantizer.eval()(x)[0].tolist() == [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
