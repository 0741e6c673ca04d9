"""BNN: signs of activations, a closed window."""

import torch
from gradients import assert_linear, backward, random, slopes, tensor

from binarch.quantizers import ClosedSign, Sign

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
