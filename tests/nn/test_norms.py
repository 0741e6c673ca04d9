"""The shift-based batch norm against its written formula, and norms without scale and shift."""

import pytest
import torch
from torch import Tensor, nn

from binarch.nn.norms import ShiftBatchNorm, shift_based, without_affine
from binarch.quantizers import ap2


def norm(channels: int) -> ShiftBatchNorm:
    torch.manual_seed(channels)
    made = ShiftBatchNorm(channels).double()
    made.weight.data.uniform_(0.3, 3)
    made.bias.data.normal_()
    return made


def by_hand(x: Tensor, layer: ShiftBatchNorm, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One channel at a time, numbers of it in a row: output and the three gradients."""
    y, dx = torch.empty_like(x), torch.empty_like(x)
    weight, bias = torch.empty_like(layer.weight), torch.empty_like(layer.bias)
    for c in range(x.shape[1]):
        values, g = x[:, c], grad[:, c]
        centred = values - values.mean()
        r = ap2(1 / ((centred * ap2(centred)).mean() + layer.eps).sqrt())
        gamma = ap2(layer.weight[c].detach())
        y[:, c] = centred * r * gamma + layer.bias[c].detach()
        dx[:, c] = gamma * r * (g - g.mean() - ap2(centred) * r**2 * (g * ap2(centred)).mean())
        weight[c], bias[c] = (g * ap2(centred * r)).sum(), g.sum()
    return y, dx, weight, bias


@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 4, 2)])
def test_training_follows_the_formula(shape: tuple[int, ...]) -> None:
    layer = norm(shape[1])
    x = (2 * torch.randn(shape, dtype=torch.float64) + 1).requires_grad_()
    grad = torch.randn(shape, dtype=torch.float64)
    y = layer(x)
    found = (y.detach(), *torch.autograd.grad(y, (x, layer.weight, layer.bias), grad))
    for ours, expected in zip(found, by_hand(x.detach(), layer, grad), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_every_factor_is_a_power_of_two() -> None:
    layer = norm(8).float()
    layer(torch.randn(16, 8, 3, 3) * torch.logspace(-2, 2, 8).view(1, -1, 1, 1))
    scale, _ = layer.affine()
    assert torch.equal(scale, torch.exp2(scale.log2().round()))
    assert len(scale.unique()) > 3


def test_evaluation_uses_running_statistics_of_momentum_an_eighth() -> None:
    layer = norm(3).float()
    x = torch.randn(64, 3) * 2 + 5
    layer(x)
    torch.testing.assert_close(layer.running_mean, x.mean(0) / 8)
    layer.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    y = layer(x)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    expected = (x - layer.running_mean) * ap2(layer.running_inverse) * ap2(layer.weight) + layer.bias
    torch.testing.assert_close(y, expected)


def test_replacements_keep_what_they_can() -> None:
    given = nn.BatchNorm1d(4, eps=1e-3, momentum=0.3)
    given(torch.randn(9, 4))
    plain = without_affine(given)
    assert isinstance(plain, nn.BatchNorm1d)
    assert (plain.eps, plain.momentum, plain.affine) == (1e-3, 0.3, False)
    assert torch.equal(plain.running_var, given.running_var)
    assert isinstance(shift_based(nn.BatchNorm2d(5, affine=False)), ShiftBatchNorm)
