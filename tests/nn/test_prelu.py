"""PReLU against PyTorch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from binarch.nn import PReLU, prelu

FORMATS = (torch.contiguous_format, torch.channels_last)


def run(function: object, x: Tensor, slope: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, slope = x.detach().requires_grad_(), slope.detach().requires_grad_()
    y = function(x, slope)
    y.backward(upstream)
    return y.detach(), x.grad, slope.grad


@pytest.mark.parametrize("memory_format", FORMATS)
@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(*(st.integers(1, 5) for _ in range(4))), seed=st.integers(0, 99))
def test_equals_torch_with_zeros_among_the_inputs(
    memory_format: torch.memory_format, shape: tuple[int, int, int, int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, upstream = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))
    x = (x * (torch.rand(shape, generator=generator) > 0.2)).to(memory_format=memory_format)
    slope = torch.randn(shape[1], dtype=torch.float64, generator=generator)
    for ours, theirs in zip(run(prelu, x, slope, upstream), run(functional.prelu, x, slope, upstream), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_gradcheck(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64, generator=generator)
    x = torch.where(x.abs() < 0.01, 0.5, x).to(memory_format=memory_format)  # finite differences fail at the kink
    assert torch.autograd.gradcheck(
        prelu, (x.requires_grad_(), torch.tensor([0.25, -0.5, 2.0]).double().requires_grad_())
    )


def test_zero_takes_the_slope_and_adds_nothing_to_its_gradient() -> None:
    x = torch.tensor([0.0, -0.0]).view(1, 1, 1, 2).requires_grad_()
    slope = torch.tensor([0.25], requires_grad=True)
    prelu(x, slope).sum().backward()
    assert x.grad.flatten().tolist() == [0.25, 0.25]
    assert slope.grad.item() == 0


def test_frozen_slopes_get_no_gradient() -> None:
    x, layer = torch.randn(2, 3, 4, 4, requires_grad=True), PReLU(3).requires_grad_(False)
    layer(x).sum().backward()
    assert torch.equal(x.grad, torch.where(x > 0, 1.0, 0.25))
    assert layer.weight.grad is None


def test_memory_format_is_kept() -> None:
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert PReLU(8)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_with_float_slopes(dtype: torch.dtype) -> None:
    layer, x = PReLU(3), torch.randn(4, 3, 8, 8).to(dtype).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, x.detach().float().clamp(max=0).sum((0, 2, 3)), rtol=1e-2, atol=1e-2)


def test_slopes_start_at_a_quarter() -> None:
    assert PReLU(3).weight.tolist() == [0.25] * 3
