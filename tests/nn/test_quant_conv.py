"""The quantized convolution against PyTorch's and against counted bits."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn import Binarization, QuantConv2d
from binarch.quantizers import CentredSign, Identity, PolynomialSign, Sign, StandardisedSign


def conv(inputs: int, outputs: int, kernel: int, **options: object) -> QuantConv2d:
    quantizers = {"weight_quantizer": Identity(), "activation_quantizer": Identity()} | options
    torch.manual_seed(kernel)
    return QuantConv2d(inputs, outputs, kernel, **quantizers)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_equals_the_convolution_of_torch(
    dilation: int, stride: int, kernel: int, groups: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    padding = dilation * (kernel // 2)
    layer = conv(6, 12, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    expected = functional.conv2d(x, layer.weight, None, stride, padding, dilation, groups)
    ours = layer(x)
    upstream = torch.randn_like(expected)
    results = [torch.autograd.grad(y, (x, layer.weight), upstream) for y in (ours, expected)]
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def counted_bits(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int) -> Tensor:
    """A binary convolution by xnor and popcount, one output at a time; padding contributes nothing."""
    (inputs, h, w), (outputs, per_group, k, _) = x.shape, weight.shape
    bits, filters = (x >= 0).tolist(), (weight >= 0).tolist()
    size = [(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n in (h, w)]
    y = torch.zeros(outputs, *size)
    for o, row, column in itertools.product(range(outputs), *map(range, size)):
        first, agreeing, terms = o // (outputs // groups) * per_group, 0, 0
        for c, i, j in itertools.product(range(per_group), range(k), range(k)):
            r, s = row * stride + i * dilation - padding, column * stride + j * dilation - padding
            if 0 <= r < h and 0 <= s < w:
                terms += 1
                agreeing += bits[first + c][r][s] == filters[o][c][i][j]
        y[o, row, column] = 2 * agreeing - terms
    assert first + per_group <= inputs
    return y


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    "kernel, stride, padding, dilation", [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 2, 4, 2), (1, 1, 0, 1)]
)
def test_binary_convolution_counts_bits(kernel: int, stride: int, padding: int, dilation: int, groups: int) -> None:
    layer = conv(
        6, 6, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        weight_quantizer=CentredSign(), activation_quantizer=Sign(),
    )  # fmt: skip
    x = torch.randn(1, 6, 6, 7)
    codes, scale = CentredSign().quantize(layer.weight.detach())
    reference = counted_bits(x[0], codes, stride, padding, dilation, groups)
    assert torch.equal(layer(x)[0], reference * scale.view(-1, 1, 1))  # integers first, one product then


@pytest.mark.parametrize("activations", [Sign, Identity])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_gradients_are_those_of_the_quantizers(stride: int, dilation: int, activations: type) -> None:
    layer = conv(
        4, 6, 3, stride=stride, padding=dilation, dilation=dilation, groups=2,
        weight_quantizer=CentredSign(), activation_quantizer=activations(), output_scale=True,
    ).double()  # fmt: skip
    layer.scale.data.uniform_(0.5, 2)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    weight = CentredSign()(layer.weight) * layer.scale.view(-1, 1, 1, 1)
    expected = functional.conv2d(activations()(x), weight, None, stride, dilation, dilation, 2)
    upstream = torch.randn_like(expected)
    inputs = (x, layer.weight, layer.scale)
    results = [torch.autograd.grad(y, inputs, upstream) for y in (layer(x), expected)]
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("inputs, groups, kernel", [(12, 12, 3), (12, 4, 3), (8, 2, 3), (10, 1, 5), (12, 1, 1)])
def test_outputs_before_scaling_are_integers_of_one_parity_in_the_interior(
    inputs: int, groups: int, kernel: int
) -> None:
    options = {"weight_quantizer": Sign(), "activation_quantizer": Sign(), "groups": groups}
    y = conv(inputs, 2 * inputs, kernel, padding=kernel // 2, **options)(torch.randn(2, inputs, 9, 9))
    terms, border = inputs // groups * kernel**2, kernel // 2
    interior = y[..., border : 9 - border, border : 9 - border]
    assert torch.equal(y, y.round())
    assert ((interior - terms) % 2 == 0).all()
    assert interior.abs().max() <= terms


def test_a_corner_sees_fewer_terms() -> None:
    layer = conv(1, 1, 3, padding=1, weight_quantizer=Sign(), activation_quantizer=Sign())
    layer.weight.data.fill_(1.0)
    assert layer(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]


@pytest.mark.parametrize("dilation", [1, 2])
def test_output_scale_multiplies_the_output(dilation: int) -> None:
    layer = conv(4, 6, 3, padding=dilation, dilation=dilation, groups=2, output_scale=True).double()
    plain = conv(4, 6, 3, padding=dilation, dilation=dilation, groups=2).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    assert torch.equal(layer(x), plain(x))  # scales start at one
    layer.scale.data.copy_(torch.randn(6))
    expected = plain(x) * layer.scale.view(1, -1, 1, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(y, layer.scale, upstream)[0] for y in (layer(x), expected)), rtol=1e-10, atol=1e-10
    )


def test_without_output_scale_there_is_one_parameter() -> None:
    assert [name for name, _ in conv(4, 4, 3).named_parameters()] == ["weight"]


@pytest.mark.parametrize(
    "weights, activations, binary",
    [(CentredSign, Sign, True), (Sign, Sign, True), (Identity, Sign, False), (CentredSign, Identity, False),
     (Identity, Identity, False)],
)  # fmt: skip
def test_is_binary_asks_both_operands(weights: type, activations: type, binary: bool) -> None:
    assert conv(4, 4, 3, weight_quantizer=weights(), activation_quantizer=activations()).is_binary is binary


@pytest.mark.parametrize("quantizers", [(Identity, Identity), (CentredSign, Sign)], ids=["real", "binary"])
@pytest.mark.parametrize(
    "options",
    [{"dilation": 3, "padding": 3}, {"dilation": 2, "padding": 1}, {"dilation": 2, "padding": 0},
     {"dilation": 2, "padding": 2, "stride": 3}, {"dilation": 2, "padding": (2, 2)},
     {"dilation": 2, "padding": 2, "stride": (2, 2)}, {"dilation": (2, 2), "padding": 2, "stride": (1, 1)},
     {"dilation": 2, "padding": 4}, {"dilation": (1, 2), "padding": (1, 2)}, {"dilation": (2, 3), "padding": 2},
     {"dilation": 2, "padding": 2, "stride": (1, 2)}, {"dilation": 4, "padding": (5, 0), "stride": (2, 3)},
     {"stride": 3, "padding": 2}, {"stride": (2, 1)}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kernel", [3, 1, 2, (3, 5), (2, 3)], ids=str)
def test_any_geometry_is_that_of_torch(
    kernel: int | tuple[int, int], options: dict[str, Any], quantizers: tuple[type, type]
) -> None:
    torch.manual_seed(0)
    weights, inputs = (make() for make in quantizers)
    layer = QuantConv2d(4, 6, kernel, groups=2, weight_quantizer=weights, activation_quantizer=inputs, **options)
    layer.double()
    x = torch.randn(2, 4, 17, 18, dtype=torch.float64).requires_grad_()
    geometry = {"stride": 1, "padding": 0, "dilation": 1} | options
    expected = functional.conv2d(inputs(x), weights(layer.weight), None, groups=2, **geometry)
    upstream = torch.randn_like(expected)
    ours = layer(x)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    results = [torch.autograd.grad(y, (x, layer.weight), upstream) for y in (ours, expected)]
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("binarize, weights, activations", [("none", 32, 32), ("activations", 32, 1), ("both", 1, 1)])
def test_binarization_sets_the_quantizers(binarize: str, weights: int, activations: int) -> None:
    layer = Binarization(binarize).conv(12, 12, 3, stride=2, padding=1, groups=3)
    assert (layer.weight_quantizer.bits, layer.activation_quantizer.bits) == (weights, activations)
    assert layer(torch.randn(1, 12, 8, 8)).shape == (1, 12, 4, 4)
    assert layer.scale is None
    assert Binarization(binarize, output_scale=True).conv(12, 24, 1).scale.tolist() == [1.0] * 24


@pytest.mark.parametrize("binarize, weights, activations", [("none", 32, 32), ("activations", 32, 1), ("both", 1, 1)])
def test_standardised_cells_begin_with_small_sums(binarize: str, weights: int, activations: int) -> None:
    torch.manual_seed(0)
    layer = Binarization(binarize, scheme="standardised").conv(48, 24, 5, padding=2, groups=2)
    assert (layer.weight_quantizer.bits, layer.activation_quantizer.bits) == (weights, activations)
    assert isinstance(layer.activation_quantizer, Identity if binarize == "none" else PolynomialSign)
    torch.testing.assert_close(layer.scale, torch.full((24,), 0.1))
    if binarize == "both":  # of 600 signs each: a deviation of sqrt(2 / pi), which the factor makes small
        deviation = layer(torch.randn(8, 48, 9, 9))[..., 2:-2, 2:-2].std().item()
        assert deviation == pytest.approx(0.1 * (2 / torch.pi) ** 0.5, rel=0.15)


def test_the_gradient_of_a_sign_is_chosen_apart_from_the_scheme() -> None:
    layers = [
        Binarization("both", scheme=scheme, sign_gradient=gradient).conv(4, 4, 3)  # type: ignore[arg-type]
        for scheme in ("bats", "standardised")
        for gradient in ("window", "polynomial")
    ]
    assert [type(layer.activation_quantizer) for layer in layers] == [Sign, PolynomialSign] * 2
    assert [type(layer.weight_quantizer) for layer in layers] == [CentredSign] * 2 + [StandardisedSign] * 2
    assert Binarization("none", sign_gradient="polynomial").conv(4, 4, 3).activation_quantizer.bits == 32


def test_an_unknown_binarization_is_named() -> None:
    with pytest.raises(UserError, match=r"binarize: 'weights'.*activations, both, none"):
        Binarization("weights")
    with pytest.raises(UserError, match=r"scheme: 'xnor-net'.*bats, standardised"):
        Binarization(scheme="xnor-net")
    with pytest.raises(UserError, match=r"sign_gradient: 'clip'.*polynomial, scheme, window"):
        Binarization(sign_gradient="clip")  # type: ignore[arg-type]
