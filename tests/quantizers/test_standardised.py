"""Standardised signs against the formula."""

import pytest
import torch

from binarch.quantizers import StandardisedSign


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (6, 10), (4, 2, 1, 1)])
def test_forward_and_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    w = torch.randn(shape, dtype=torch.float64) * 3 + 1
    grad = torch.randn(shape, dtype=torch.float64)
    flat, g = w.flatten(1), grad.flatten(1)
    deviation = (flat.var(1, correction=0, keepdim=True) + 1e-10).sqrt()
    hat = (flat - flat.mean(1, keepdim=True)) / deviation
    scale, signs = hat.abs().mean(1, keepdim=True), torch.where(hat >= 0, 1.0, -1.0)
    torch.testing.assert_close(StandardisedSign()(w), (scale * signs).view(shape))
    # through scale times sign, then through the standardisation
    inner = g * scale + signs * (g * signs).mean(1, keepdim=True)
    expected = (inner - inner.mean(1, keepdim=True) - hat * (inner * hat).mean(1, keepdim=True)) / deviation
    leaf = w.clone().requires_grad_()
    StandardisedSign()(leaf).backward(grad)
    torch.testing.assert_close(leaf.grad, expected.view(shape), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_shortens_nothing(dtype: torch.dtype) -> None:
    filters = 5 * torch.randn(4, 64, 3, 3)
    plain = StandardisedSign().quantize(filters)
    with torch.autocast("cpu", dtype):
        mixed = StandardisedSign().quantize(filters)
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))


def test_length_and_mean_of_the_latent_weights_do_not_count() -> None:
    w = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(StandardisedSign()(7 * w - 2), StandardisedSign()(w))


def test_unit_filters_are_the_same_divided_by_the_root_of_their_size() -> None:
    w, grad = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    leaves = w.clone().requires_grad_(), w.clone().requires_grad_()
    unit, plain = (StandardisedSign(unit=unit)(leaf) for unit, leaf in zip((True, False), leaves, strict=True))
    torch.testing.assert_close(unit * 75**0.5, plain)
    unit.backward(grad * 75**0.5)
    plain.backward(grad)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
    single = torch.tensor([[[[-0.5]]]])
    assert torch.equal(StandardisedSign(unit=True)(single), single)


def test_filters_without_a_deviation() -> None:
    for w in (torch.ones(2, 3, 1, 1), torch.zeros(2, 3, 1, 1)):
        leaf = w.requires_grad_()
        y = StandardisedSign()(leaf)
        y.sum().backward()
        assert not y.any()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    single = torch.tensor([[[[-0.5]]], [[[0.25]]]])
    assert torch.equal(StandardisedSign()(single), single)
