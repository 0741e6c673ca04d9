"""Every quantizer's promise, and the formulas of sign and centred sign."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from binarch.quantizers import CentredSign, Identity, Quantizer, Sign, straight_through_sign

ALL = (Identity(), Sign(), CentredSign())


@st.composite
def banks(draw: st.DrawFn, inputs: int = 1) -> Tensor:
    """A filter bank (out, in, k, k) with zeros, negative zeros and ties among its numbers."""
    shape = tuple(draw(st.tuples(*(st.integers(low, 4) for low in (1, inputs, 1, 1)))))
    number = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0]) | st.floats(-3, 3, width=32)
    numbers = draw(st.lists(number, min_size=math.prod(shape), max_size=math.prod(shape)))
    return torch.tensor(numbers).view(shape)


@pytest.mark.parametrize("quantizer", ALL, ids=lambda q: type(q).__name__)
@settings(max_examples=60, deadline=None)
@given(bank=banks())
def test_forward_is_codes_times_scale(quantizer: Quantizer, bank: Tensor) -> None:
    codes, scale = quantizer.quantize(bank)
    assert codes.shape == bank.shape
    assert codes.dtype == scale.dtype == bank.dtype
    assert torch.equal(quantizer(bank), codes * scale)
    if quantizer.bits == 1:
        assert set(codes.unique().tolist()) <= {-1.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantizer", ALL, ids=lambda q: type(q).__name__)
def test_forward_keeps_the_number_format(quantizer: Quantizer, dtype: torch.dtype) -> None:
    bank = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    codes, scale = quantizer.quantize(bank)
    assert quantizer(bank).dtype == codes.dtype == dtype
    assert torch.equal(quantizer(bank), codes * scale)


def test_bits() -> None:
    assert [quantizer.bits for quantizer in ALL] == [32, 1, 1]


def test_identity_passes_numbers_and_gradients() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    grad = torch.randn(2, 3, 4, 4)
    Identity()(x).backward(grad)
    assert torch.equal(Identity()(x), x)
    assert torch.equal(x.grad, grad)


def test_sign_of_either_zero_is_plus_one() -> None:
    zeros = torch.tensor([0.0, -0.0])
    assert straight_through_sign(zeros).tolist() == [1.0, 1.0]
    assert Sign().quantize(zeros)[0].tolist() == [1.0, 1.0]


def test_gradient_of_sign_passes_inside_the_open_window() -> None:
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    Sign()(x).backward(torch.full((7,), 3.0))
    assert x.grad.tolist() == [0.0, 0.0, 3.0, 3.0, 3.0, 0.0, 0.0]


def test_sign_works_on_channels_last_maps() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    y = Sign()(x)
    y.sum().backward()
    assert torch.equal(y, torch.where(x >= 0, 1.0, -1.0))
    assert torch.equal(x.grad, (x.abs() < 1).float())
    assert y.is_contiguous(memory_format=torch.channels_last)


def centred(bank: np.ndarray) -> np.ndarray:
    return bank - bank.mean(axis=1, keepdims=True) if bank.shape[1] > 1 else bank


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 1, 5, 5), (6, 2, 1, 7)])
def test_scale_is_the_mean_magnitude_of_each_centred_filter(shape: tuple[int, ...]) -> None:
    bank = torch.randn(shape, dtype=torch.float64)
    codes, scale = CentredSign().quantize(bank)
    latent = centred(bank.numpy())
    assert scale.shape == (shape[0], 1, 1, 1)
    np.testing.assert_allclose(scale.flatten().numpy(), np.abs(latent).reshape(shape[0], -1).mean(1), rtol=1e-12)
    assert np.array_equal(codes.numpy(), np.where(latent >= 0, 1.0, -1.0))


def test_a_single_input_channel_is_not_centred() -> None:
    bank = torch.tensor([0.5, -0.25, 2.0, 1.25]).view(1, 1, 2, 2)
    codes, scale = CentredSign().quantize(bank)
    assert codes.flatten().tolist() == [1.0, -1.0, 1.0, 1.0]
    assert scale.item() == 1.0


@settings(max_examples=60, deadline=None)
@given(
    bank=banks(inputs=2).filter(
        lambda bank: bool(((bank - bank.mean(1, keepdim=True)).abs().amax((1, 2, 3)) > 0.01).all())
    )
)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_another_scale_fits_worse(factor: float, bank: Tensor) -> None:
    bank = bank.double()
    codes, scale = CentredSign().quantize(bank)
    latent = bank - bank.mean(1, keepdim=True)
    best, other = ((latent - s * codes).square().sum((1, 2, 3)) for s in (scale, scale * factor))
    assert (other > best).all()


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 1, 5, 5), (6, 2, 1, 7)])
def test_gradient_of_centred_sign_is_the_written_one(shape: tuple[int, ...]) -> None:
    """dL/dD = g a 1[|D| < 1] + sign(D) sum(g s) / n for the centred D; dL/dW is that, centred."""
    generator = torch.Generator().manual_seed(1)
    bank, upstream = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))
    latent, g = centred(bank.numpy()), upstream.numpy()
    assert (np.abs(latent) > 1).any()
    assert (np.abs(latent) < 1).any()
    n = latent[0].size
    alpha = np.abs(latent).sum(axis=(1, 2, 3), keepdims=True) / n
    signs = np.where(latent >= 0, 1.0, -1.0)
    through_scale = signs * (g * signs).sum(axis=(1, 2, 3), keepdims=True) / n
    expected = centred(g * alpha * (np.abs(latent) < 1) + through_scale)
    CentredSign()(bank.requires_grad_()).backward(upstream)
    np.testing.assert_allclose(bank.grad.numpy(), expected, rtol=1e-12, atol=1e-14)
