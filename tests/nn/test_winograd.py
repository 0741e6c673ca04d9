"""Convolutions by Winograd's algorithm against the plain sum."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import QuantConv2d, plain
from binarch.nn.tiles import LANES
from binarch.nn.winograd import MOST, convolve, fits
from binarch.quantizers import CentredSign, Identity, PolynomialSign, Sign, StandardisedSign, XnorWeight

#: Images, input and output channels, height and width, kernel.
SHAPES = [
    (1, 64, 64, 4, 4, 3), (3, 72, 64, 8, 4, 3), (5, 64, 136, 12, 16, 3), (40, 64, 64, 4, 4, 3), (9, 64, 64, 16, 16, 3),
    (1, 64, 64, 2, 2, 5), (3, 72, 64, 2, 6, 5), (5, 64, 136, 12, 16, 5), (40, 64, 64, 4, 4, 5),
]  # fmt: skip


def codes(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape).float() * 2 - 1


def case(shape: tuple[int, ...], *, integers: bool) -> tuple[Tensor, Tensor, Tensor]:
    n, inputs, out, height, width, kernel = shape
    torch.manual_seed(n)
    made = codes if integers else torch.randn
    return made(n, inputs, height, width), made(out, inputs, kernel, kernel), torch.rand(out) + 0.5


def summed(x: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(x, weight, padding=weight.shape[2] // 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_sums_of_codes_are_exact(shape: tuple[int, ...], channels_last: bool) -> None:
    x, weight, factor = case(shape, integers=True)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = summed(x, weight) * factor.view(-1, 1, 1)
    assert torch.equal(convolve(x, weight, factor), expected)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("pattern", ["ones", "signs", "stripes"])
def test_the_largest_sums_are_exact(pattern: str, kernel: int) -> None:
    inputs = MOST // kernel**2 // LANES * LANES
    x, weight = torch.ones(2, inputs, 8, 8), torch.ones(96, inputs, kernel, kernel)
    assert fits(x, weight)
    if pattern == "signs":
        torch.manual_seed(0)
        weight = codes(1, inputs, kernel, kernel).expand(96, -1, -1, -1)
        x[:, :, 2 : 2 + kernel, 2 : 2 + kernel] = weight[0]
    if pattern == "stripes":
        x[..., ::2], weight[..., 1::2] = -1, -1
    expected = summed(x, weight)
    assert expected.abs().max() == inputs * kernel**2 or pattern == "stripes"
    assert torch.equal(convolve(x, weight, torch.ones(96)), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("integers", [True, False])
def test_outputs_and_gradients_are_those_of_the_sum(shape: tuple[int, ...], integers: bool) -> None:
    tensors = [tensor.requires_grad_() for tensor in case(shape, integers=integers)]
    x, weight, factor = tensors
    grad = torch.randn(shape[0], shape[2], *shape[3:5])
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = summed(wide[0], wide[1])
    found = convolve(x, weight, factor if integers else None)
    if integers:
        expected = expected * wide[2].view(-1, 1, 1)
    found.backward(grad)
    expected.backward(grad.double())
    pairs = [(found, expected), *((one.grad, two.grad) for one, two in zip(tensors, wide, strict=True))]
    for one, two in pairs[: 4 if integers else 3]:
        assert one is not None
        assert two is not None
        assert (one - two).abs().max() <= 1e-5 * two.abs().max()


def test_what_nobody_asks_for_is_not_computed() -> None:
    x, weight, factor = case(SHAPES[1], integers=True)
    convolve(x, weight.requires_grad_()).sum().backward()
    expected = torch.autograd.grad(summed(x, weight).sum(), weight)[0]
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected, rtol=1e-5, atol=1e-3)
    x.requires_grad_()
    convolve(x, weight.detach(), factor).sum().backward()
    expected = torch.autograd.grad((summed(x, weight) * factor.view(-1, 1, 1)).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-3)


def test_no_output_depends_on_the_threads() -> None:
    x, weight, factor = case(SHAPES[4], integers=True)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            x.grad = None
            y = convolve(x.requires_grad_(), weight, factor)
            y.square().sum().backward()
            found.append((y.detach(), x.grad))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-3)
    assert torch.equal(found[0][0], found[1][0])


def layer(inputs: int = 96, kernel: int = 3, **given: object) -> QuantConv2d:
    torch.manual_seed(1)
    options = {"padding": kernel // 2, "weight_quantizer": CentredSign(), "activation_quantizer": Sign(), **given}
    return QuantConv2d(inputs, 96, kernel, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "made",
    [
        layer(bias=True, output_scale=True),
        layer(128),
        layer(128, 5, output_scale=True),
        layer(dilation=2, padding=2),
        layer(kernel=5, dilation=2, padding=4),
        layer(weight_quantizer=StandardisedSign(), activation_quantizer=PolynomialSign()),
        layer(weight_quantizer=XnorWeight("exact")),
        layer(weight_quantizer=Identity()),
        layer(activation_quantizer=Identity()),
    ],
)
def test_a_layer_in_training_is_its_straightforward_form(made: QuantConv2d) -> None:
    torch.manual_seed(2)
    inputs = made.filter_shape[1]
    images = torch.randn(3, inputs, 8, 8)
    assert fits(images, made.weight)
    found = []
    for each in (made, plain(nn.Sequential(made))):
        x = images.clone().requires_grad_()
        y = each(x)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        found.append((y.detach(), x.grad, *(p.grad for p in each.parameters())))
        each.zero_grad()
    for one, two in zip(*found, strict=True):
        assert one is not None
        assert two is not None
        assert (one - two).abs().max() <= 1e-5 * two.abs().max()


def test_training_and_evaluation_see_the_same_sums() -> None:
    made = layer()
    x = torch.randn(2, 96, 8, 8)
    assert torch.equal(made.train()(x), made.eval()(x))


@pytest.mark.parametrize(
    "x, weight",
    [
        ((2, 96, 6, 8), (96, 96, 3, 3)), ((2, 96, 7, 8), (96, 96, 5, 5)), ((2, 96, 8, 8), (96, 96, 1, 1)),
        ((2, 96, 8, 8), (96, 96, 3, 5)), ((2, 96, 8, 8), (24, 96, 3, 3)),
        ((2, 96, 8, 8), (96, 24, 3, 3)), ((2, 100, 8, 8), (96, 100, 3, 3)), ((0, 96, 8, 8), (96, 96, 3, 3)),
        ((1, 1032, 4, 4), (96, 1032, 3, 3)),
    ],
)  # fmt: skip
def test_other_shapes_are_left_to_the_sum(x: tuple[int, ...], weight: tuple[int, ...]) -> None:
    assert not fits(torch.zeros(x), torch.zeros(weight))


def test_other_formats_are_left_to_the_sum() -> None:
    x, weight = torch.zeros(1, 96, 4, 4), torch.zeros(96, 96, 3, 3)
    assert fits(x, weight)
    assert not fits(x.double(), weight.double())
    assert not fits(x.bfloat16(), weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not fits(x, weight)


@pytest.mark.parametrize("option", [{"stride": 2}, {"dilation": 3, "padding": 3}, {"padding": 0}, {"groups": 2}])
def test_other_geometries_are_left_to_the_sum(option: dict[str, int]) -> None:
    made = layer(128, **option)  # type: ignore[arg-type]
    x = torch.randn(2, 128, 8, 8)
    torch.testing.assert_close(made(x), plain(nn.Sequential(made))(x), rtol=1e-6, atol=1e-4)


def test_a_second_derivative_is_refused() -> None:
    x, weight, _ = case(SHAPES[0], integers=True)
    (first,) = torch.autograd.grad(convolve(x, weight.requires_grad_()).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
