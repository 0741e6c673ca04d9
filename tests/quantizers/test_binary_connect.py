"""BinaryConnect: signs of weights, the gradient as it comes."""

import torch
from gradients import assert_linear, backward, random, slopes, tensor

from binarch.quantizers import BinaryConnect, StochasticBinaryConnect

WEIGHTS = [-2, -0.3, 0, 0.3, 2]


def test_fixed_weights() -> None:
    y, gradient = backward(BinaryConnect(), WEIGHTS, [1, 2, 3, 4, 5])
    assert y.tolist() == [-1, -1, 1, 1, 1]
    assert gradient.tolist() == [1, 2, 3, 4, 5]


def test_no_window_at_all() -> None:
    assert (slopes(BinaryConnect(), random(1000, spread=10)) == 1).all()
    assert_linear(BinaryConnect(), random(100, spread=3))


def test_signs_stay_what_they_are() -> None:
    once = BinaryConnect()(random(100))
    assert torch.equal(BinaryConnect()(once), once)
    assert once.unique().tolist() == [-1, 1]


def test_the_mean_of_draws_is_the_clipped_weight() -> None:
    torch.manual_seed(0)
    for weight, mean in ((0.4, 0.4), (-0.8, -0.8), (0.0, 0.0)):
        draws = StochasticBinaryConnect()(torch.full((100_000,), weight))
        assert draws.unique().tolist() == [-1, 1]
        assert abs(draws.mean().item() - mean) < 0.01


def test_beyond_one_nothing_is_left_to_chance() -> None:
    quantizer = StochasticBinaryConnect()
    assert (quantizer(torch.full((1000,), 1.0)) == 1).all()
    assert (quantizer(torch.full((1000,), -1.0)) == -1).all()
    assert (quantizer(torch.full((1000,), 7.0)) == 1).all()


def test_every_forward_draws_anew() -> None:
    torch.manual_seed(0)
    quantizer, weight = StochasticBinaryConnect(), torch.zeros(100)
    assert not torch.equal(quantizer(weight), quantizer(weight))


def test_evaluation_takes_the_real_weights() -> None:
    quantizer = StochasticBinaryConnect()
    assert quantizer.bits == 1
    quantizer.eval()
    assert quantizer.bits == 32
    assert torch.equal(quantizer(tensor(WEIGHTS)), tensor(WEIGHTS))


def test_the_gradient_of_a_draw_is_the_one_that_comes() -> None:
    for quantizer in (StochasticBinaryConnect(), StochasticBinaryConnect().eval()):
        g = random(500, seed=1)
        assert torch.equal(backward(quantizer, random(500, spread=2), g)[1], g)
