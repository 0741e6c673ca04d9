"""CCNN: trained scales, the long-tailed gradient."""

import pytest
import torch
from gradients import assert_linear, backward, random, slopes, tensor
from torch import Tensor, nn

from binarch.nn import QuantConv2d
from binarch.quantizers import LongTailedStep, TrainedScale
from binarch.quantizers.ccnn import long_tail


def test_the_long_tail() -> None:
    x = tensor([0, 0.2, 0.4, 0.7, 1, 1.01])
    expected = tensor([2, 1.2, 0.4, 0.4, 0.4, 0])
    torch.testing.assert_close(long_tail(x), expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(long_tail(-x), expected, rtol=1e-14, atol=1e-14)
    assert long_tail(x.float()).dtype == torch.float32


def test_the_area_of_the_long_tail() -> None:
    count = 300_000
    x = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 3 - 1.5
    assert long_tail(x).mean().item() * 3 == pytest.approx(1.44, abs=1e-6)


def test_fixed_activations() -> None:
    quantizer = LongTailedStep().double()
    quantizer.beta.data.fill_(0.5)
    x, g = [-1.01, -1, -0.2, 0, 1e-30, 0.4, 1, 1.01], [1.0, 2, 3, 4, 5, 6, 7, 8]
    y, gradient = backward(quantizer, x, g)
    assert y.tolist() == [0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5]  # 0 itself stays down
    torch.testing.assert_close(gradient, tensor([0, 0.4, 1.8, 4, 5, 1.2, 1.4, 0]))
    quantizer(tensor(x)).backward(tensor(g))
    assert quantizer.beta.grad.item() == 5 + 6 + 7 + 8


def test_the_learned_height_by_finite_differences() -> None:
    quantizer, x, g, h = LongTailedStep().double(), random(100), random(100, seed=1), 1e-3
    quantizer(x).backward(g)

    def loss(beta: float) -> float:
        quantizer.beta.data.fill_(beta)
        return (g * quantizer(x)).sum().item()

    slope = (loss(1 + h) - loss(1 - h)) / (2 * h)
    assert quantizer.beta.grad.item() == pytest.approx(slope, rel=1e-9)


def test_gradients_of_activations_on_random_numbers() -> None:
    quantizer, x, g = LongTailedStep().double(), random(500), random(500, seed=1)
    size = x.abs()
    expected = torch.where(size <= 0.4, 2 - 4 * size, 0.4 * (size <= 1))
    torch.testing.assert_close(backward(quantizer, x, g)[1], g * expected)
    assert_linear(quantizer, x)
    assert quantizer(x).unique().tolist() == [0, 1]


def written(w: Tensor, alpha: Tensor, g: Tensor) -> Tensor:
    return g * alpha.view(-1, 1, 1, 1) * torch.where(w.abs() <= 1, 2 - 2 * w.abs(), 0.0)


@pytest.mark.parametrize("decay", [0.0, 1e-4, 0.3])
def test_filters(decay: float) -> None:
    w, g = random(4, 3, 3, 3, spread=0.7), random(4, 3, 3, 3, seed=1)
    w[0, 0, 0] = tensor([0.0, 1.0, -1.0])
    quantizer = TrainedScale(w, decay)
    torch.testing.assert_close(quantizer.alpha.detach(), w.abs().mean((1, 2, 3)))
    quantizer.alpha.data.uniform_(0.2, 2, generator=torch.Generator().manual_seed(0))
    alpha = quantizer.alpha.detach()
    y, gradient = backward(quantizer, w, g)
    signs = torch.where(w >= 0, 1.0, -1.0)
    torch.testing.assert_close(y, alpha.view(-1, 1, 1, 1) * signs)
    torch.testing.assert_close(gradient, written(w, alpha, g))
    assert_linear(quantizer, w)
    quantizer(w).backward(g)
    torch.testing.assert_close(quantizer.alpha.grad, (g * signs).sum((1, 2, 3)) + decay * alpha)


def test_the_scale_by_finite_differences_of_loss_and_penalty() -> None:
    w, g, h, decay = random(2, 3, 3, 3), random(2, 3, 3, 3, seed=1), 1e-4, 0.05
    quantizer = TrainedScale(w, decay)
    start = quantizer.alpha.detach().clone()
    quantizer(w).backward(g)

    def loss(alpha: Tensor) -> float:
        quantizer.alpha.data.copy_(alpha)
        return ((g * quantizer(w)).sum() + decay / 2 * alpha.square().sum()).item()

    shifts = torch.eye(2, dtype=torch.float64) * h
    expected = [(loss(start + shift) - loss(start - shift)) / (2 * h) for shift in shifts]
    assert quantizer.alpha.grad.tolist() == pytest.approx(expected, rel=1e-8)


def test_the_slope_of_a_filter_ends_at_one() -> None:
    quantizer = TrainedScale(torch.ones(1, 1, 1, 5).double(), 0.0)
    x = tensor([-1.5, -1, 0, 0.5, 1]).view(1, 1, 1, 5)
    assert slopes(quantizer, x).flatten().tolist() == [0, 0, 2, 1, 0]


@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_a_batch_norm_cancels_the_scales(which: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3)
    layer = QuantConv2d(
        4, 6, 3, padding=1, weight_quantizer=TrainedScale(weight), activation_quantizer=LongTailedStep(), latent=weight
    )
    norm, x = nn.BatchNorm2d(6), torch.randn(8, 4, 8, 8)
    before = norm(layer(x))
    quantizer = layer.weight_quantizer if which == "alpha" else layer.activation_quantizer
    getattr(quantizer, which).data.mul_(3)
    assert (norm(layer(x)) - before).abs().max() < 1e-3
