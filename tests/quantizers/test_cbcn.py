"""CBCN: circulant filters, their adjoint, and what a quarter turn does."""

import numpy as np
import pytest
import torch
from gradients import assert_linear, backward, random, slopes, tensor
from torch import Tensor
from torch.nn import functional

from binarch.nn import QuantConv2d
from binarch.quantizers import CirculantSign, PolynomialSign, circulate, stored_filters

SHAPES = [(2, 3, 4, 3, 3), (1, 1, 4, 3, 3), (3, 2, 4, 1, 1), (2, 1, 4, 5, 5)]


def expanded(stored: np.ndarray) -> np.ndarray:
    """The definition, entry by entry."""
    o, i, _, h, w = stored.shape
    bank = np.full((4 * o, 4 * i, h, w), np.nan)
    for out, inp, j, k in np.ndindex(o, i, 4, 4):
        bank[4 * out + k, 4 * inp + (j + k) % 4] = np.rot90(stored[out, inp, j], -k)
    return bank


def gathered(bank: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The adjoint, entry by entry."""
    stored = np.zeros(shape)
    for out, inp, j, k in np.ndindex(shape[0], shape[1], 4, 4):
        stored[out, inp, j] += np.rot90(bank[4 * out + k, 4 * inp + (j + k) % 4], k)
    return stored


def turned(stored: Tensor) -> Tensor:
    """Each slice a quarter clockwise, and one orientation further: what r = 1 does to r = 0."""
    return torch.rot90(stored, -1, (3, 4)).roll(1, 2)


def turned_map(x: Tensor) -> Tensor:
    """A map (N, 4 C, H, W), a quarter clockwise, each orientation group one further."""
    n, c, h, w = x.shape
    return torch.rot90(x, -1, (2, 3)).reshape(n, c // 4, 4, w, h).roll(1, 2).reshape(n, c, w, h)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_expansion_is_the_definition(shape: tuple[int, ...]) -> None:
    stored = random(*shape)
    bank = circulate(stored)
    assert np.array_equal(bank.numpy(), expanded(stored.numpy()))
    assert bank.numel() == 4 * stored.numel()
    assert torch.equal(bank[::4], stored.flatten(1, 2))  # orientation 0 is what is stored


def test_clockwise_is_clockwise() -> None:
    stored = torch.zeros(1, 1, 4, 3, 3)
    stored[0, 0, 2] = torch.arange(9.0).view(3, 3)
    assert circulate(stored)[1, 3].tolist() == [[6, 3, 0], [7, 4, 1], [8, 5, 2]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_of_the_expansion_is_its_adjoint(shape: tuple[int, ...]) -> None:
    stored = random(*shape)
    upstream = random(4 * shape[0], 4 * shape[1], *shape[3:], seed=1)
    bank, gradient = backward(circulate, stored, upstream)
    np.testing.assert_allclose(gradient, gathered(upstream.numpy(), shape), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close((bank * upstream).sum(), (stored * gradient).sum(), rtol=1e-12, atol=1e-12)


def test_four_turns_are_none() -> None:
    stored = random(2, 3, 4, 3, 3)
    bank = circulate(turned(stored))
    by_orientation = circulate(stored).unflatten(0, (2, 4))
    assert torch.equal(bank, by_orientation.roll(-1, 1).flatten(0, 1))
    assert torch.equal(turned(turned(turned(turned(stored)))), stored)


@pytest.mark.parametrize("size", [(6, 6), (5, 7)], ids=str)
def test_a_turned_picture_turns_the_output(size: tuple[int, int]) -> None:
    x, bank = random(2, 12, *size), circulate(random(2, 3, 4, 3, 3, seed=1))

    def convolved(x: Tensor) -> Tensor:
        return functional.conv2d(x, bank, padding=1)

    torch.testing.assert_close(convolved(turned_map(x)), turned_map(convolved(x)), rtol=1e-11, atol=1e-11)


def test_a_binary_layer_turns_exactly() -> None:
    stored = random(2, 3, 4, 3, 3, seed=1).float()
    layer = QuantConv2d(
        12, 8, 3, padding=1, weight_quantizer=CirculantSign(), activation_quantizer=PolynomialSign(),
        latent=stored.flatten(1, 2),
    )  # fmt: skip
    x = random(2, 12, 6, 6).float()
    assert torch.equal(layer(turned_map(x)), turned_map(layer(x)))


def test_slope_of_the_polynomial() -> None:
    x = [-2, -1, -0.75, -0.5, -0.0, 0, 0.5, 0.75, 1, 1.01]
    assert slopes(PolynomialSign(), x).tolist() == [0, 0, 0.5, 1, 2, 2, 1, 0.5, 0, 0]
    assert PolynomialSign()(tensor(x)).tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]
    x, g = random(1000), random(1000, seed=1)
    expected = g * torch.where(x < 0, 2 + 2 * x, 2 - 2 * x) * (x.abs() <= 1)
    torch.testing.assert_close(backward(PolynomialSign(), x, g)[1], expected)
    assert_linear(PolynomialSign(), x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantized_filters(shape: tuple[int, ...]) -> None:
    stored, g = random(*shape), random(4 * shape[0], 4 * shape[1], *shape[3:], seed=1)
    stored.flatten()[:3] = tensor([1.0, -1.0, 0.5])
    y, gradient = backward(CirculantSign(), stored.flatten(1, 2), g)
    bank, a = expanded(stored.numpy()), stored.abs().mean().item()
    signs = np.where(bank >= 0, 1.0, -1.0)
    np.testing.assert_allclose(y, a * signs, rtol=1e-12)
    through_sign = gathered(g.numpy() * a * np.clip(2 - 2 * np.abs(bank), 0, None), shape)
    through_scale = np.sign(stored.numpy()) / stored.numel() * (g.numpy() * signs).sum()
    np.testing.assert_allclose(gradient.view(shape), through_sign + through_scale, rtol=1e-10, atol=1e-12)
    assert_linear(CirculantSign(), stored.flatten(1, 2), tuple(g.shape))


def test_one_scale_per_layer_and_two_values() -> None:
    stored = torch.cat([random(1, 8, 3, 3), random(1, 8, 3, 3, seed=1, spread=9)])
    codes, scale = CirculantSign().quantize(stored)
    assert scale.shape == ()
    assert len((codes * scale).unique()) == 2
    assert CirculantSign().quantize(torch.zeros(1, 4, 3, 3))[0].unique().tolist() == [1]


def test_stored_filters_are_every_fourth_one() -> None:
    bank = random(8, 12, 3, 3)
    stored = stored_filters(bank)
    assert torch.equal(stored, bank[::4])
    circulant = circulate(stored.unflatten(1, (3, 4)))
    assert torch.equal(stored_filters(circulant), stored)
    stored.zero_()
    assert bank.all()  # a copy
