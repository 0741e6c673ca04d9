"""What quantized layers share: exact sums, stairs, corrections, bias."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import QuantConv2d, QuantLinear, stairs, uneven
from binarch.nn.quant_layer import Shape2d
from binarch.quantizers import (
    BinaryConnect,
    Boxed,
    CentredBoxed,
    ClosedSign,
    Edge,
    Free,
    HalfWave,
    HwgqWeight,
    Identity,
    InputScale,
    Interaction,
    LongTailedStep,
    LqActivation,
    PolynomialSign,
    Sign,
    StepQuantizer,
    TrainedTernary,
    XnorWeight,
)


def conv(inputs: int, outputs: int, kernel: int, **options: Any) -> QuantConv2d:
    quantizers = {"weight_quantizer": BinaryConnect(), "activation_quantizer": Identity()} | options
    torch.manual_seed(0)
    return QuantConv2d(inputs, outputs, kernel, **quantizers)


def basis(*numbers: float) -> LqActivation:
    quantizer = LqActivation(len(numbers))
    quantizer.basis.copy_(torch.tensor(numbers))
    return quantizer


LQ_BASES = [(0.45, 0.9), (0.9, 0.4), (0.11, 0.37, 0.8), (0.7, -0.33), (0.1, 0.23, 0.31, 0.77)]

# --- exact sums -----------------------------------------------------------------------------------------------------


def test_evaluation_adds_real_inputs_in_double() -> None:
    x = torch.tensor([1e8, 1.0, -1e8]).view(1, 3, 1, 1)
    layer = conv(3, 1, 1)
    layer.weight.data.fill_(0.5)
    assert layer.eval()(x).item() == 1
    linear = QuantLinear(3, 1, weight_quantizer=BinaryConnect(), activation_quantizer=Identity())
    linear.weight.data.fill_(0.5)
    assert linear.eval()(x.view(1, 3)).item() == 1


@pytest.mark.parametrize("weights", [BinaryConnect, HwgqWeight, XnorWeight, TrainedTernary])
def test_evaluation_does_not_depend_on_the_order_of_the_inputs(weights: type) -> None:
    layer, order = conv(24, 6, 3, padding=1, weight_quantizer=weights()).eval(), torch.randperm(24)
    other = copy.deepcopy(layer)
    other.weight.data = layer.weight.data[:, order].clone()
    x = torch.randn(4, 24, 7, 7)
    codes, scale = layer.weight_quantizer.quantize(layer.weight)
    counts = functional.conv2d(x.double(), codes.double(), padding=1).float()
    assert torch.equal(layer(x), counts * scale.flatten().view(-1, 1, 1))
    assert torch.equal(functional.conv2d(x[:, order].double(), codes[:, order].double(), padding=1).float(), counts)


def test_training_and_evaluation_agree_but_for_rounding() -> None:
    layer, x = conv(24, 6, 3, padding=1, bias=True), torch.randn(4, 24, 7, 7)
    torch.testing.assert_close(layer.eval()(x), layer.train()(x), rtol=1e-5, atol=1e-5)


# --- stairs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quantizer",
    [Sign(), PolynomialSign(), LongTailedStep(), HalfWave(1), HalfWave(3), LqActivation(1), basis(0.9, 0.4)],
)
def test_stairs_add_up_to_the_staircase(quantizer: StepQuantizer) -> None:
    x = torch.cat([torch.randn(500), *[stair.threshold.view(1) for stair in stairs(quantizer)]])
    total = sum((x >= stair.threshold).float() * stair.rise for stair in stairs(quantizer))
    torch.testing.assert_close(total, quantizer.eval()(x).detach(), rtol=1e-6, atol=1e-6)


def test_uneven_are_levels_that_are_no_integers() -> None:
    assert uneven(LqActivation(2))
    assert uneven(basis(0.5, 1.0))
    for even in (LqActivation(1), HalfWave(2), HalfWave(4), Sign(), Identity(), HwgqWeight(), basis(1.0, 2.0)):
        assert not uneven(even)


@pytest.mark.parametrize("numbers", LQ_BASES, ids=str)
@pytest.mark.parametrize("padding, stride", [(0, 1), (1, 1), (1, 2), (2, 1)])
def test_stair_by_stair_is_the_convolution_of_levels(numbers: tuple[float, ...], padding: int, stride: int) -> None:
    layer = conv(
        8, 6, 3, padding=padding, stride=stride, weight_quantizer=HwgqWeight(), activation_quantizer=basis(*numbers),
        bias=True, output_scale=True,
    ).eval()  # fmt: skip
    layer.scale.data.uniform_(0.5, 2)
    layer.bias.data.normal_()
    x = torch.randn(2, 8, 9, 9)
    levels, weight = layer.activation_quantizer(x).double(), layer.weight_quantizer(layer.weight).double()
    expected = functional.conv2d(levels, weight, None, stride, padding) * layer.scale.view(-1, 1, 1)
    expected = expected + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-6, atol=1e-6 * float(expected.detach().abs().max()))


def test_stair_by_stair_in_linear_layers() -> None:
    layer = QuantLinear(20, 6, weight_quantizer=HwgqWeight(), activation_quantizer=basis(0.9, 0.4), bias=True).eval()
    x = torch.randn(5, 20)
    expected = functional.linear(layer.activation_quantizer(x), layer.weight_quantizer(layer.weight), layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)


def test_equal_numbers_of_both_signs_cancel_exactly() -> None:
    """A sum of rounded levels misses zero, depending on its order; counts of stairs do not."""
    layer, order = conv(400, 1, 1, activation_quantizer=basis(0.1, 0.23, 0.4003)).eval(), torch.randperm(400)
    x = torch.rand(1, 200, 4, 4).repeat(1, 2, 1, 1)[:, order]
    layer.weight.data = torch.tensor([1.0, -1.0]).repeat_interleave(200)[order].view(1, 400, 1, 1)
    assert not layer(x).any()
    assert functional.conv2d(layer.activation_quantizer(x), layer.weight).any()


def test_training_with_uneven_levels_fits_the_basis_once_a_step() -> None:
    layer, x = (
        conv(8, 6, 3, weight_quantizer=HwgqWeight(), activation_quantizer=LqActivation(2)),
        torch.randn(2, 8, 9, 9),
    )
    other = LqActivation(2)
    other(x)
    layer(x)
    assert torch.equal(layer.activation_quantizer.basis, other.basis)
    layer.eval()(x)
    assert torch.equal(layer.activation_quantizer.basis, other.basis)


def test_short_floats_take_the_same_stairs() -> None:
    """Thresholds are no bfloat16 numbers; rounded ones would move the numbers next to them up."""
    layer = conv(1, 1, 1, activation_quantizer=LqActivation(2)).eval()
    x = torch.stack([stair.threshold.bfloat16() for stair in stairs(layer.activation_quantizer)]).view(1, 1, 1, -1)
    with torch.autocast("cpu", torch.bfloat16):
        short = layer(x)
    torch.testing.assert_close(short.float(), layer(x.float()), rtol=0.01, atol=0.01)


# --- corrections, bias, gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_correction_comes_between_sum_and_scale(training: bool) -> None:
    interaction = Interaction(threshold=8, step=3)
    interaction.set_edges([Edge(0, 1, 1), Edge(1, 2, -1)])
    options = {
        "weight_quantizer": HwgqWeight(),
        "activation_quantizer": ClosedSign(),
        "bias": True,
        "output_scale": True,
    }
    layer = conv(6, 4, 3, padding=1, correction=interaction, **options).train(training)
    layer.scale.data.uniform_(0.5, 2)
    layer.bias.data.normal_()
    x = torch.randn(2, 6, 7, 7)
    codes, scale = layer.weight_quantizer.quantize(layer.weight)
    counts = functional.conv2d(torch.where(x >= 0, 1.0, -1.0), codes, padding=1)
    corrected = interaction(counts, x)
    assert not torch.equal(counts, corrected)
    expected = corrected * (scale.flatten() * layer.scale).view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    assert torch.equal(layer(x), expected)


def test_the_input_scale_of_xnor() -> None:
    options = {"weight_quantizer": XnorWeight(), "activation_quantizer": Sign()}
    plain = conv(6, 4, 3, padding=2, dilation=2, stride=2, **options).double()
    scaled = conv(
        6, 4, 3, padding=2, dilation=2, stride=2, correction=InputScale((3, 3), (2, 2), (2, 2), (2, 2)), **options
    ).double()
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    box = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    magnitude = functional.conv2d(x.abs().mean(1, keepdim=True), box, padding=2, dilation=2, stride=2)
    torch.testing.assert_close(scaled(x), plain(x) * magnitude)


@pytest.mark.parametrize("weights", [Identity, BinaryConnect, HwgqWeight, XnorWeight, TrainedTernary, ClosedSign])
@pytest.mark.parametrize("inputs", [Identity, ClosedSign, HalfWave, LongTailedStep])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_layer_is_the_product_of_what_quantizers_give(weights: type, inputs: type, training: bool) -> None:
    layer = conv(
        4, 6, 3, padding=1, groups=2, bias=True, output_scale=True, weight_quantizer=weights(),
        activation_quantizer=inputs(),
    ).double().train(training)  # fmt: skip
    layer.scale.data.uniform_(0.5, 2)
    layer.bias.data.normal_()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    product = functional.conv2d(layer.activation_quantizer(x), layer.weight_quantizer(layer.weight), None, 1, 1, 1, 2)
    expected = product * layer.scale.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    upstream, leaves = torch.randn_like(expected), (x, *layer.parameters())
    results = [torch.autograd.grad(y, leaves, upstream) for y in (layer(x), expected)]
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_settle_follows_the_rule() -> None:
    for rule in (Boxed(), CentredBoxed(), Free()):
        layer = conv(4, 6, 3, latent_rule=rule)
        layer.weight.data.mul_(20)
        expected = layer.weight.detach().clone()
        rule.settle(expected)
        layer.settle()
        assert torch.equal(layer.weight, expected)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv2d(6, 4, 3, padding=1, groups=2), Shape2d(3, (3, 3), (1, 1), (1, 1), (1, 1))),
        (conv(6, 4, 5, stride=(2, 1), padding=(0, 4), dilation=2), Shape2d(6, (5, 5), (2, 1), (0, 4), (2, 2))),
    ],
)
def test_shapes(layer: nn.Module, shape: Shape2d) -> None:
    assert Shape2d.of(layer) == shape


def test_one_map_without_a_batch() -> None:
    layer = conv(3, 5, 3, bias=True, weight_quantizer=HwgqWeight()).eval()
    x: Tensor = torch.randn(3, 8, 8)
    torch.testing.assert_close(layer(x), layer(x[None])[0])
