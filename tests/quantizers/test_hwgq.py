"""HWGQ: the half-wave staircase, its steps, and the unscaled gradient of its filters."""

import pytest
import torch
from gradients import assert_linear, backward, normal_grid, random
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers import HalfWave, HwgqWeight
from binarch.quantizers.hwgq import STEPS

X = [-0.5, 0, 1e-6, 0.807, 0.8071, 1.345, 1.3451, 1.614, 1.615, 3]
#: Half of the mean squared distance to N(0, 1)'s positive half, by bits.
ERRORS = {1: 0.18169, 2: 0.04322, 3: 0.01020, 4: 0.00251}


def test_fixed_activations() -> None:
    x = torch.tensor(X, requires_grad=True)
    y = HalfWave()(x)
    y.backward(torch.arange(1.0, 11))
    expected = [0, 0, 0.538, 0.538, 1.076, 1.076, 1.614, 1.614, 1.614, 1.614]
    torch.testing.assert_close(y.detach(), torch.tensor(expected))
    torch.testing.assert_close(x.grad, torch.tensor([0, 0, 3.0, 4, 5, 6, 7, 8, 0, 0]))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_upper_ends_of_stairs_belong_to_them(bits: int) -> None:
    quantizer = HalfWave(bits)
    middles = torch.tensor([quantizer.step * (j + 0.5) for j in range(1, 2**bits - 1)])
    ends = torch.cat([torch.zeros(1), middles])
    above = torch.nextafter(ends, torch.full_like(ends, torch.inf))
    assert quantizer.quantize(ends)[0].tolist() == list(range(2**bits - 1))
    assert quantizer.quantize(above)[0].tolist() == list(range(1, 2**bits))
    assert quantizer.quantize(torch.tensor([-torch.inf, torch.inf]))[0].tolist() == [0, 2**bits - 1]


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_clipped_relu_backward(bits: int) -> None:
    top = HalfWave(bits).step * (2**bits - 1)
    x, g = torch.cat([random(1000, spread=2), torch.tensor([0.0, top]).double()]), random(1002, seed=1)
    torch.testing.assert_close(backward(HalfWave(bits), x, g)[1], g * (x > 0) * (x <= top))
    assert_linear(HalfWave(bits), x)


def staircase(x: Tensor, step: float, bits: int) -> Tensor:
    """0 up to 0, above that the nearest of step, 2 step, ..."""
    return torch.where(x > 0, (x / step).round().clamp(1, 2**bits - 1) * step, 0.0)


def distance(y: Tensor, x: Tensor) -> float:
    return (y - x.relu()).square().mean().item()


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_steps_are_the_best_for_a_normal_map(bits: int) -> None:
    x, step = normal_grid(200_000), STEPS[bits]
    error = distance(HalfWave(bits)(x), x)
    assert error == pytest.approx(ERRORS[bits], abs=1e-5)
    assert error == pytest.approx(distance(staircase(x, step, bits), x), abs=1e-9)
    for factor in (0.98, 1.02):
        assert distance(staircase(x, factor * step, bits), x) > error


def test_monte_carlo() -> None:
    x = random(400_000)
    assert distance(HalfWave(2)(x), x) == pytest.approx(0.0432, abs=5e-4)
    assert distance(HalfWave(1)(x), x) == pytest.approx(0.1817, abs=2e-3)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_there_are_as_many_levels_as_codes(bits: int) -> None:
    assert len(HalfWave(bits)(torch.linspace(-1, 4, 2000)).unique()) == 2**bits


def test_levels_stay_what_they_are() -> None:
    for bits in (1, 2, 3, 4):
        once = HalfWave(bits)(random(500, spread=2))
        assert torch.equal(HalfWave(bits)(once), once)


@pytest.mark.parametrize("bits", [0, 5, 32])
def test_impossible_bits_are_named(bits: int) -> None:
    with pytest.raises(UserError, match=f"bits: {bits} .*1, 2, 3, 4"):
        HalfWave(bits)


def test_filters_get_their_mean_magnitude_and_the_gradient_as_it_comes() -> None:
    w, g = random(5, 3, 3, 3, spread=2), random(5, 3, 3, 3, seed=1)
    w[0, 0, 0] = torch.tensor([0.0, -0.0, 1.0])
    y, gradient = backward(HwgqWeight(), w, g)
    alpha = w.abs().sum((1, 2, 3), keepdim=True) / 27
    torch.testing.assert_close(y, torch.where(w >= 0, alpha, -alpha))
    torch.testing.assert_close(gradient, g, rtol=1e-14, atol=0)
    assert [len(filter_.unique()) for filter_ in y] == [2] * 5
    assert_linear(HwgqWeight(), w)


def test_a_filter_of_zeros_stays_finite() -> None:
    y, gradient = backward(HwgqWeight(), torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3))
    assert not y.any()
    assert gradient.isfinite().all()
