"""The reference against PyTorch, and against sums done by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from binarch.deploy import Builder
from binarch.runtime import Program, reference
from binarch.runtime.ops import (
    LARGEST_REAL,
    Add,
    Affine,
    BitConv,
    Clip,
    Concat,
    Conv,
    Flatten,
    Image,
    Mean,
    Op,
    Pool,
    PRelu,
    Quantize,
    Shape,
    Shuffle,
    Window,
    Zeros,
)


class Bench:
    """A program whose image passes through unchanged, and the value of one instruction after it."""

    def __init__(self, channels: int, height: int, width: int, seed: int = 0) -> None:
        self.builder = Builder()
        self.draw = np.random.default_rng(seed)
        self.image = self.draw.random((2, channels, height, width), np.float32)
        zero, one = (self.builder.reals(np.full(channels, number)) for number in (0, 1))
        self.last = self.builder.add(Image(channels, height, width, zero, one))

    def reals(self, *shape: int) -> tuple[int, Tensor]:
        """Normal numbers: their place in the program, and themselves."""
        values = self.draw.normal(0, 1, shape).astype(np.float32)
        return self.builder.reals(values), torch.from_numpy(values)

    def value(self, op: Op) -> np.ndarray:
        """What the instruction yields; as value ``last`` the next one may read it."""
        self.last = self.builder.add(op)
        shape = self.builder.shapes[self.last]
        readers: list[Op] = [Flatten(self.last)]
        if shape.levels:  # codes are no logits: let a convolution read them
            weight, scale = self.builder.bits(np.zeros(shape.channels)), self.builder.reals(np.zeros(1))
            readers = [
                BitConv(self.last, same(shape, 1), 1, 1, weight, (0, 0), (0,) * shape.levels, scale),
                Flatten(self.last + 1),
            ]
        for reader in readers:
            end = self.builder.add(reader)
        names = [str(k) for k in range(self.builder.shapes[end].channels)]
        return reference.trace(self.builder.program({"classes": names}), self.image)[-1 - len(readers)]

    @property
    def x(self) -> Tensor:
        return torch.from_numpy(self.image)


def same(shape: Shape, kernel: int) -> Window:
    return Window((kernel, kernel), (1, 1), (1, 1), (-(kernel // 2), -(kernel // 2)), shape.dims[1:])


def close(ours: np.ndarray, expected: Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=1e-6, atol=1e-6)


Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, Pair, Pair]

#: Size, kernel, stride, padding and dilation as PyTorch counts them.
GEOMETRIES: list[Geometry] = [
    ((9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((9, 8), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((7, 10), (5, 3), (2, 1), (4, 0), (2, 1)),
    ((6, 9), (1, 7), (1, 3), (0, 3), (1, 1)),
    ((11, 5), (7, 1), (3, 1), (3, 2), (1, 3)),
    ((4, 4), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((3, 3), (5, 5), (1, 1), (8, 8), (3, 3)),
    ((1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
]


def window(geometry: Geometry) -> Window:
    size, kernel, stride, padding, dilation = geometry
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return Window(kernel, stride, dilation, (-padding[0], -padding[1]), (out[0], out[1]))


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int) -> Tensor:
    """A convolution by PyTorch, in double."""
    _, _, stride, padding, dilation = geometry
    bias = None if bias is None else bias.double()
    return functional.conv2d(x.double(), weight.double(), bias, stride, padding, dilation, groups)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_conv_is_that_of_torch(groups: int, geometry: Geometry) -> None:
    bench = Bench(6, *geometry[0])
    (weight, w), (bias, b) = bench.reals(12, 6 // groups, *geometry[1]), bench.reals(12)
    y = bench.value(Conv(0, window(geometry), 12, groups, weight, 32, 0, bias))
    assert y.dtype == np.float32
    close(y, convolved(bench.x, w, b, geometry, groups).float())


@pytest.mark.parametrize("bits", [1, 2])
def test_conv_with_packed_weights_looks_them_up(bits: int) -> None:
    bench = Bench(3, 5, 5)
    codes = bench.draw.integers(0, 1 << bits, (4, 3, 3, 3))
    levels, values = bench.reals(1 << bits)
    seen = same(Shape(3, 5, 5), 3)
    y = bench.value(Conv(0, seen, 4, 1, bench.builder.bits(codes, bits), bits, levels, -1))
    close(y, functional.conv2d(bench.x.double(), values[torch.from_numpy(codes)].double(), padding=1).float())


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    "values, weight_values",
    [((-1, 1), (-1, 1)), ((0, 1, 2, 3), (-1, 1)), ((-1, 0, 1), (-1, 0, 0, 1)), (tuple(range(-7, 9)), (-3, -1, 1, 3))],
    ids=str,
)
def test_bitconv_is_a_convolution_of_integers(
    values: tuple[int, ...], weight_values: tuple[int, ...], groups: int, geometry: Geometry
) -> None:
    bench = Bench(6, *geometry[0])
    thresholds = np.sort(bench.draw.random((6, len(values) - 1)), 1).astype(np.float32)
    codes = bench.builder.add(Quantize(0, len(values), bench.builder.reals(thresholds), -1))
    counted = sum(bench.image >= t for t in np.moveaxis(thresholds, 1, 0)[:, None, :, None, None])
    w = bench.draw.integers(0, len(weight_values), (9, 6 // groups, *geometry[1]))
    weight = bench.builder.bits(w, len(weight_values) // 2)
    scale, factor = bench.reals(9)
    op = BitConv(codes, window(geometry), 9, groups, weight, weight_values, values, scale)
    y = bench.value(op)
    inputs, filters = np.array(values)[counted], np.array(weight_values)[w]
    sums = convolved(torch.from_numpy(inputs), torch.from_numpy(filters), None, geometry, groups)
    assert torch.equal(torch.from_numpy(y), sums.float() * factor.view(1, -1, 1, 1))


def test_quantize_counts_thresholds() -> None:
    bench = Bench(2, 1, 5)
    bench.image[:, 0, 0], bench.image[:, 1, 0] = [-1, 0, 0.5, 1, 9], [-1, 0, 0.5, 1, 9]
    thresholds = bench.builder.reals(np.array([[0, 0.5, np.inf], [-np.inf, 0.5, 1]]))
    codes = bench.value(Quantize(0, 4, thresholds, bench.builder.bits(np.array([0, 1]))))
    assert codes[0, 0, 0].tolist() == [0, 1, 2, 2, 2]
    assert codes[0, 1, 0].tolist() == [2, 2, 1, 0, 0]  # how many thresholds lie above x


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g[4] == (1, 1) and g[1] <= g[0]], ids=str)
def test_max_pool_is_that_of_torch(geometry: Geometry) -> None:
    size, kernel, stride, padding, _ = geometry
    bench = Bench(3, *size)
    y = bench.value(Pool(0, "max", window(geometry)))
    assert torch.equal(torch.from_numpy(y), functional.max_pool2d(bench.x, kernel, stride, padding))


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g[4] == (1, 1) and g[1] <= g[0]], ids=str)
@pytest.mark.parametrize("kind", ["mean", "mean_padded"])
def test_mean_pools_are_those_of_torch(kind: str, geometry: Geometry) -> None:
    size, kernel, stride, padding, _ = geometry
    bench = Bench(3, *size)
    y = bench.value(Pool(0, kind, window(geometry)))
    close(y, functional.avg_pool2d(bench.x, kernel, stride, padding, count_include_pad=kind == "mean_padded"))


def test_image_is_normalised() -> None:
    bench = Bench(3, 4, 5)
    mean, std = bench.builder.reals(np.array([0.4, 0.5, 0.6])), bench.builder.reals(np.array([0.2, 0.25, 0.3]))
    bench.builder.ops[0] = Image(3, 4, 5, mean, std)
    program = bench.builder
    last = program.add(Flatten(0))
    y = reference.run(program.program({"classes": ["x"] * program.shapes[last].channels}), bench.image)
    (m, s) = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    assert torch.equal(torch.from_numpy(y), ((bench.x - m) / s).flatten(1))


def test_layers_of_one_number_each() -> None:
    bench = Bench(4, 3, 5)
    (scale, a), (shift, b) = bench.reals(4), bench.reals(4)
    affine = bench.value(Affine(0, scale, shift))
    close(affine, bench.x * a.view(1, -1, 1, 1) + b.view(1, -1, 1, 1))
    x = bench.last
    y = torch.from_numpy(affine)
    assert (y < 0).any()
    assert (y > 0).any()
    slope, c = bench.reals(4)
    assert torch.equal(torch.from_numpy(bench.value(PRelu(x, slope))), torch.prelu(y, c))
    assert torch.equal(torch.from_numpy(bench.value(Clip(x, -0.25, 0.5))), y.clamp(-0.25, 0.5))
    assert torch.equal(torch.from_numpy(bench.value(Clip(x, 0.0, LARGEST_REAL))), y.relu())
    assert torch.equal(torch.from_numpy(bench.value(Add(x, 0))), y + bench.x)


def test_layers_that_move_numbers() -> None:
    bench = Bench(12, 3, 5)
    shuffled = torch.from_numpy(bench.value(Shuffle(0, 4)))
    at = bench.last
    assert torch.equal(shuffled, functional.channel_shuffle(bench.x, 4))
    assert torch.equal(shuffled, bench.x[:, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]])
    concat = torch.from_numpy(bench.value(Concat((at, 0, at))))
    assert torch.equal(concat, torch.cat([shuffled, bench.x, shuffled], 1))
    assert torch.equal(torch.from_numpy(bench.value(Flatten(0))), bench.x.reshape(2, -1, 1, 1))
    assert torch.equal(torch.from_numpy(bench.value(Zeros(2, 3, 4))), torch.zeros(2, 2, 3, 4))
    close(bench.value(Mean(0)), bench.x.double().mean((2, 3), keepdim=True).float())


def test_a_convolution_by_hand() -> None:
    """Two channels of 1 x 3 pixels, one filter of three taps, padded by one: bits in order, zeros outside."""
    bench = Bench(2, 1, 3)
    bench.image[:] = np.array([[1, 0, 1], [0, 0, 1]], np.float32)[None, :, None]
    builder = bench.builder
    codes = builder.add(Quantize(0, 2, builder.reals(np.full(2, 0.5)), -1))
    seen = Window((1, 3), (1, 1), (1, 1), (0, -1), (1, 3))
    # Signs of the map: + - + / - - +. Filter: + + - / - + +, so bits 1 1 0 0 1 1.
    weight = builder.bits(np.array([1, 1, 0, 0, 1, 1]))
    y = bench.value(BitConv(codes, seen, 1, 1, weight, (-1, 1), (-1, 1), builder.reals(np.array([0.5]))))
    left = (1 * 1 - 1 * -1) + (1 * -1 + 1 * -1)
    middle = (1 * 1 + 1 * -1 - 1 * 1) + (-1 * -1 + 1 * -1 + 1 * 1)
    right = (1 * -1 + 1 * 1) + (-1 * -1 + 1 * 1)
    assert y.tolist() == [[[[left / 2, middle / 2, right / 2]]]] * 2


def test_packed_codes_begin_with_the_lowest_bits() -> None:
    image = Image(1, 1, 1, 1, 0)
    reals = np.array([1, 0, 10, 20, 30, 40], np.float32)
    bits = np.array([0xFF, 0b1101_0010, 0b0000_0001], np.uint8)
    one = Window((1, 1), (1, 1), (1, 1), (0, 0), (1, 1))
    for width, codes in ((1, [0, 1, 0, 0, 1, 0, 1, 1, 1]), (2, [2, 0, 1, 3, 1])):
        ops = image, Conv(0, one, len(codes), 1, 1, width, 2, -1)
        program = Program(ops, bits, reals, {"classes": ["x"] * len(codes)})
        assert reference.run(program, np.ones((1, 1, 1, 1), np.float32))[0].tolist() == [10 * c + 10 for c in codes]
