"""LQ-Nets: levels, gradients, and the fit of the basis (QEM)."""

import itertools

import numpy as np
import pytest
import torch
from gradients import assert_linear, backward, normal_grid, random, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers import LqActivation, LqWeight
from binarch.quantizers.lq_net import binary_codes, fitted, middles, ordered_levels

RIDGE = 1e-4


def activation(*basis: float) -> LqActivation:
    quantizer = LqActivation(len(basis)).double()
    quantizer.basis.copy_(tensor(basis))
    return quantizer


def filters(*basis: float, out: int = 1) -> LqWeight:
    quantizer = LqWeight(torch.zeros(out, 1), len(basis)).double()
    quantizer.basis.copy_(tensor(basis).expand(out, -1))
    return quantizer


def nearest(x: np.ndarray, basis: np.ndarray, low: int) -> np.ndarray:
    """The codes (N, K) of the levels nearest to x, by trying all."""
    codes = np.array(list(itertools.product((low, 1), repeat=len(basis))), float)
    return codes[np.abs(x[:, None] - codes @ basis).argmin(1)]


def alternated(x: np.ndarray, basis: np.ndarray, low: int) -> np.ndarray:
    """One alternation of QEM, anchored, without the moving average."""
    codes = nearest(x, basis, low)
    return np.linalg.solve(codes.T @ codes + RIDGE * np.eye(len(basis)), codes.T @ x + RIDGE * basis)


def before_averaging(old: Tensor, new: Tensor) -> Tensor:
    return (new - 0.9 * old) / 0.1


def error(x: np.ndarray, basis: np.ndarray, low: int) -> float:
    return float(np.square(x - nearest(x, basis, low) @ basis).mean())


# --- levels ---------------------------------------------------------------------------------------------------------


def test_two_bit_activations_start_at_the_published_levels() -> None:
    quantizer = LqActivation(2).eval()
    torch.testing.assert_close(quantizer.basis, torch.tensor([0.44967, 0.89933]), rtol=0, atol=1e-5)
    levels, _ = ordered_levels(quantizer.basis, 0)
    torch.testing.assert_close(levels, torch.tensor([0, 0.4497, 0.8993, 1.3490]), rtol=0, atol=1e-4)
    torch.testing.assert_close(middles(levels), torch.tensor([0.2248, 0.6745, 1.1242]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_starts(bits: int) -> None:
    twos = 2.0 ** np.arange(bits)
    np.testing.assert_allclose(LqActivation(bits).basis, twos * 0.6745 * 2 / (2**bits - 1), rtol=1e-6)
    basis = LqWeight(torch.zeros(12, 5, 3, 3), bits).basis
    np.testing.assert_allclose(basis, [twos * 0.6745 * np.sqrt(2 / (9 * 12)) / 2 ** (bits - 1)] * 12, rtol=1e-6)


def test_fixed_activations() -> None:
    x = [-1, 0, 0.25, 0.2501, 0.75, 0.7501, 1.25, 1.2501, 1.5, 1.5001, 9]
    y, gradient = backward(activation(0.5, 1).eval(), x, np.arange(1.0, 12).tolist())
    assert y.tolist() == [0, 0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5, 1.5, 1.5]
    assert gradient.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0]


def test_one_bit_activations() -> None:
    y, gradient = backward(activation(0.75).eval(), [0, 0.375, 0.376, 0.75, 0.751], [1, 2, 3, 4, 5])
    assert y.tolist() == [0, 0, 0.75, 0.75, 0.75]
    torch.testing.assert_close(gradient, tensor([1, 2, 3, 4, 0]))


def test_an_unordered_basis_keeps_its_codes() -> None:
    """v = (.9, .4): the levels 0 < .4 < .9 < 1.3 have the codes 00, 01, 10, 11."""
    levels, codes = ordered_levels(tensor([0.9, 0.4]), 0)
    torch.testing.assert_close(levels, tensor([0, 0.4, 0.9, 1.3]))
    assert codes.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert activation(0.9, 0.4).eval()(tensor([0.1, 0.3, 0.7, 1.2])).tolist() == [0, 0.4, 0.9, 1.3]


def test_a_negative_number_in_the_basis() -> None:
    quantizer = activation(-0.25, 1).eval()
    y, gradient = backward(quantizer, [-1, -0.1, 0.3, 0.9, 1.0, 1.01], [1.0] * 6)
    assert y.tolist() == [-0.25, 0, 0, 1, 1, 1]
    assert gradient.tolist() == [1, 1, 1, 1, 1, 0]  # the largest level is the sum of what is positive


def test_fixed_filters() -> None:
    w = tensor([-9, -0.5001, -0.5, 0, 1e-9, 0.5, 0.5001, 9]).view(1, -1)
    y, gradient = backward(filters(0.25, 0.5).eval(), w, torch.arange(8.0).view(1, -1))
    assert y.tolist() == [[-0.75, -0.75, -0.75, -0.25, 0.25, 0.25, 0.75, 0.75]]
    assert gradient.tolist() == [list(range(8))]
    y, gradient = backward(filters(0.3).eval(), w, torch.arange(8.0).view(1, -1))
    assert y.tolist() == [[-0.3, -0.3, -0.3, -0.3, 0.3, 0.3, 0.3, 0.3]]  # 0 goes down
    torch.testing.assert_close(gradient, torch.arange(8.0).double().view(1, -1))


def test_codes_are_all_combinations() -> None:
    assert binary_codes(2, -1) == ((-1, -1), (1, -1), (-1, 1), (1, 1))
    assert len(set(binary_codes(4, 0))) == 16


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(1, 4))
def test_a_level_is_the_nearest_one(seed: int, bits: int) -> None:
    basis = random(bits, seed=seed, spread=0.5).abs() + 0.05
    x, w = random(64, seed=seed + 1).relu(), random(1, 64, seed=seed + 2)
    y = activation(*basis.tolist()).eval()(x)
    np.testing.assert_allclose(y, nearest(x.numpy(), basis.numpy(), 0) @ basis.numpy(), atol=1e-12)
    y = filters(*basis.tolist()).eval()(w)[0]
    np.testing.assert_allclose(y, nearest(w[0].numpy(), basis.numpy(), -1) @ basis.numpy(), atol=1e-12)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_gradient_is_linear_and_as_written(bits: int) -> None:
    x, g = random(300, spread=2), random(300, seed=1)
    quantizer = LqActivation(bits).double().eval()
    torch.testing.assert_close(backward(quantizer, x, g)[1], g * (x <= quantizer.basis.sum()))
    assert_linear(quantizer, x)
    w, g = x.view(3, 100), g.view(3, 100)
    torch.testing.assert_close(backward(LqWeight(w, bits).double().eval(), w, g)[1], g)
    assert_linear(LqWeight(w, bits).double().eval(), w)


@pytest.mark.parametrize("bits", [0, 5])
def test_impossible_bits_are_named(bits: int) -> None:
    for make in (lambda: LqActivation(bits), lambda: LqWeight(torch.zeros(2, 2), bits)):
        with pytest.raises(UserError, match=f"bits: {bits} .*1, 2, 3 or 4"):
            make()


# --- the fit --------------------------------------------------------------------------------------------------------


def test_the_fit_comes_after_its_use_and_in_training_only() -> None:
    x = random(200).relu()
    for quantizer, numbers in ((LqActivation(2).double(), x), (LqWeight(x.view(4, 50), 2).double(), x.view(4, 50))):
        start = quantizer.basis.clone()
        y = quantizer(numbers)
        assert not torch.equal(quantizer.basis, start)
        moved = quantizer.basis.clone()
        quantizer.eval()
        assert not torch.equal(quantizer(numbers), y)
        assert torch.equal(quantizer.basis, moved)
        quantizer.basis.copy_(start)
        assert torch.equal(quantizer(numbers), y)  # training had used the old one
        assert not list(quantizer.parameters())
        assert list(quantizer.state_dict()) == ["basis"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(1, 4))
def test_a_step_is_nine_tenths_old_and_one_tenth_fitted(seed: int, bits: int) -> None:
    basis = random(bits, seed=seed, spread=0.5).abs() + 0.05
    x, w = random(500, seed=seed + 1).relu(), random(2, 200, seed=seed + 2)
    quantizer = activation(*basis.tolist())
    quantizer(x)
    expected = 0.9 * basis.numpy() + 0.1 * alternated(x.numpy(), basis.numpy(), 0)
    np.testing.assert_allclose(quantizer.basis, expected, rtol=1e-6, atol=1e-7)
    of_weights = filters(*basis.tolist(), out=2)
    of_weights(w)
    for row, after in zip(w.numpy(), of_weights.basis.numpy(), strict=True):
        expected = 0.9 * basis.numpy() + 0.1 * alternated(row, basis.numpy(), -1)
        np.testing.assert_allclose(after, expected, rtol=1e-6, atol=1e-7)


def test_one_bit_of_weights_follows_their_mean_magnitude() -> None:
    w = random(3, 4, 3, 3)
    quantizer = LqWeight(w).double()
    v, total, n = quantizer.basis[:, 0].clone(), w.abs().sum((1, 2, 3)), 36
    quantizer(w)
    torch.testing.assert_close(quantizer.basis[:, 0], 0.9 * v + 0.1 * (total + RIDGE * v) / (n + RIDGE))
    for _ in range(200):
        quantizer(w)
    torch.testing.assert_close(quantizer.basis[:, 0], total / n, rtol=1e-6, atol=0)


def test_the_fit_of_an_unordered_basis() -> None:
    """Sorting levels without their codes would mix the two columns up."""
    x = tensor([0.1, 0.35, 0.45, 0.85, 1.0, 1.0, 1.2, 1.5])
    quantizer = activation(0.9, 0.4)
    quantizer(x)
    codes = np.array([[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 0], [1, 1], [1, 1]])
    solved = np.linalg.lstsq(codes, x.numpy(), rcond=None)[0]
    np.testing.assert_allclose(before_averaging(tensor([0.9, 0.4]), quantizer.basis), solved, atol=1e-3)


def test_expected_step_from_the_start_on_a_half_wave() -> None:
    quantizer = LqActivation(2).double()
    start = quantizer.basis.clone()
    quantizer(normal_grid(200_000).relu())
    torch.testing.assert_close(before_averaging(start, quantizer.basis), tensor([0.52562, 0.99680]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("bits, fixed", [(1, [1.22401]), (2, [0.65217, 1.30002])])
def test_fixed_points_on_a_half_wave(bits: int, fixed: list[float]) -> None:
    quantizer, x = LqActivation(bits).double(), normal_grid(20_000).relu()
    for _ in range(400):
        quantizer(x)
    torch.testing.assert_close(quantizer.basis, tensor(fixed), rtol=0, atol=5e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(1, 4), low=st.sampled_from([-1, 0]))
def test_pure_alternation_never_fits_worse(seed: int, bits: int, low: int) -> None:
    basis = random(bits, seed=seed, spread=0.5).abs() + 0.05
    x = random(400, seed=seed + 1) if low else random(400, seed=seed + 1).relu()
    for _ in range(5):
        levels, codes = ordered_levels(basis, low)
        index = (x.unsqueeze(-1) > middles(levels)).sum(-1)
        chosen = torch.nn.functional.one_hot(index, len(levels)).double()
        step = fitted(basis, codes, chosen.sum(0), (chosen * x.unsqueeze(-1)).sum(0))
        new = before_averaging(basis, step)
        assert error(x.numpy(), new.numpy(), low) <= error(x.numpy(), basis.numpy(), low) + 1e-6
        basis = new


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_codes_that_never_occur_leave_the_basis_where_it_is(bits: int) -> None:
    quantizer = LqActivation(bits)
    start = quantizer.basis.clone()
    for _ in range(3):
        assert not quantizer(torch.zeros(50)).any()
    torch.testing.assert_close(quantizer.basis, start)
    quantizer(torch.full((50,), 100.0))  # one level only: a singular system but for the anchor
    assert quantizer.basis.isfinite().all()
    of_weights = LqWeight(torch.zeros(2, 9), bits)
    of_weights(torch.zeros(2, 9))
    assert of_weights.basis.isfinite().all()


def test_mixed_precision_does_not_shorten_the_fit() -> None:
    x, w = random(4000).relu().float(), random(4, 300).float()
    for make, numbers in ((lambda: LqActivation(3), x), (lambda: LqWeight(w, 3), w)):
        plain, mixed = make(), make()
        y = plain(numbers)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(mixed(numbers), y)
        assert torch.equal(mixed.basis, plain.basis)


def test_a_filter_of_zeros_stays_finite() -> None:
    quantizer, w = LqWeight(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 2, 3, 3, requires_grad=True)
    quantizer.basis.fill_(1e-45)
    quantizer(w).sum().backward()
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()
