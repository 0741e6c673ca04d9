"""The quantized linear layer against PyTorch's."""

import pytest
import torch
from torch.nn import functional

from binarch.nn import QuantLinear
from binarch.quantizers import (
    BinaryConnect,
    ClosedSign,
    HalfWave,
    HwgqWeight,
    Identity,
    LqActivation,
    Quantizer,
    Sign,
    TrainedTernary,
    XnorWeight,
)


def layer(weights: Quantizer, inputs: Quantizer, bias: bool = True) -> QuantLinear:
    torch.manual_seed(0)
    made = QuantLinear(12, 7, weight_quantizer=weights, activation_quantizer=inputs, bias=bias)
    if made.bias is not None:
        made.bias.data.normal_()
    return made


PAIRS = [
    (Identity, Identity), (BinaryConnect, Identity), (BinaryConnect, ClosedSign), (HwgqWeight, HalfWave),
    (XnorWeight, Sign), (TrainedTernary, Identity), (HwgqWeight, LqActivation),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 12), (12,), (3, 7, 12), (2, 4, 7, 12)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weights, inputs", PAIRS)
def test_equals_the_linear_layer_of_torch(weights: type, inputs: type, bias: bool, shape: tuple[int, ...]) -> None:
    made = layer(weights(), inputs(), bias).double().eval()
    x = torch.randn(shape, dtype=torch.float64).requires_grad_()
    expected = functional.linear(inputs().double().eval()(x), made.weight_quantizer(made.weight), made.bias)
    ours = made(x)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)  # LqActivation starts in float32
    upstream = torch.randn_like(expected)
    if inputs is not LqActivation:  # evaluation sums its stairs, without a gradient to the inputs
        for mine, theirs in zip(
            *(torch.autograd.grad(y, (x, made.weight), upstream) for y in (ours, expected)), strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_a_start_is_kept() -> None:
    latent = torch.randn(7, 12)
    made = QuantLinear(12, 7, weight_quantizer=BinaryConnect(), activation_quantizer=Identity(), latent=latent)
    assert torch.equal(made.weight, latent)
    assert [name for name, _ in made.named_parameters()] == ["weight"]
    assert made.filter_shape == (7, 12)
