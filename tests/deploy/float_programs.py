"""Programs with every instruction, for the float graphs."""

from math import prod

import hypothesis.strategies as st
import numpy as np
from hypothesis import assume

from binarch.deploy import Builder
from binarch.runtime import Program
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
    Shuffle,
    Window,
    Zeros,
)  # fmt: skip


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Float32 pixels in 0..1."""
    return np.random.default_rng(seed).random(shape, np.float32)


def square(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, out: int | None = None
) -> Window:
    """The window of an ordinary layer on a square map."""
    if out is None:
        out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return Window((kernel, kernel), (stride, stride), (dilation, dilation), (-padding, -padding), (out, out))


def finished(builder: Builder, x: int, rng: np.random.Generator) -> Program:
    """Mean and classifier at the end."""
    channels = builder.shapes[builder.add(Mean(x))].channels
    weight, bias = builder.reals(rng.normal(size=(3, channels))), builder.reals(rng.normal(size=3))
    builder.add(Conv(len(builder.ops) - 1, square(1, 1), 3, 1, weight, 32, 0, bias))
    return builder.program({"classes": ["cat", "dog", "cow"]})


def begun(channels: int, height: int, width: int) -> Builder:
    """A normalised picture."""
    builder = Builder()
    mean, std = builder.reals(np.full(channels, 0.4)), builder.reals(np.full(channels, 0.3))
    builder.add(Image(channels, height, width, mean, std))
    return builder


def everything(seed: int = 0) -> Program:
    """A small network with each instruction at least once, 9 x 9 pixels."""
    rng = np.random.default_rng(seed)
    builder = begun(3, 9, 9)

    def reals(*shape: int) -> int:
        return builder.reals(rng.normal(size=shape))

    def bits(count: int, width: int) -> int:
        return builder.bits(rng.integers(0, 1 << width, count), width)

    x = builder.add(Conv(0, square(9, 3, padding=1), 8, 1, reals(8, 3, 3, 3), 32, 0, -1))
    x = builder.add(Affine(x, reals(8), reals(8)))  # folded
    x = builder.add(Clip(x, 0.0, LARGEST_REAL))
    mixed = builder.add(Quantize(x, 2, builder.reals(rng.random(8)), bits(8, 1)))
    signs = (-1, 1)
    a = builder.add(BitConv(mixed, square(9, 3, padding=1), 8, 2, bits(8 * 4 * 9, 1), signs, signs, reals(8)))
    a = builder.add(Shuffle(builder.add(PRelu(a, reals(8))), 4))
    a = builder.add(Add(x, a))
    thresholds = builder.reals(np.sort(rng.normal(size=(8, 3)), axis=1))
    levels = builder.add(Quantize(a, 4, thresholds, bits(8, 1)))
    b = builder.add(
        BitConv(levels, square(9, 3, 1, 2, 2), 8, 4, bits(8 * 2 * 9, 2), (-2, -1, 0, 1), (-3, -1, 1, 3), reals(8))
    )
    c = builder.add(BitConv(levels, square(9, 1), 8, 1, bits(64, 1), signs, (0, 1, 2, 3), reals(8)))
    b = builder.add(Clip(builder.add(Affine(builder.add(Add(b, c)), reals(8), reals(8))), -1.0, 1.0))
    shifted = Window((1, 1), (2, 2), (1, 1), (1, 1), (5, 5))
    plain = builder.add(Quantize(b, 2, builder.reals(rng.normal(size=8)), -1))
    d = builder.add(BitConv(plain, shifted, 4, 1, bits(32, 1), signs, signs, reals(4)))
    weight = (bits(4 * 8, 1), 1, builder.reals(np.array([-0.5, 0.7])))
    e = builder.add(Conv(b, square(9, 1, 2), 4, 1, *weight, reals(4)))
    pools = [builder.add(Pool(x, kind, square(9, 3, 2, 1))) for kind in ("max", "mean", "mean_padded")]
    pools += [builder.add(Pool(x, kind, square(9, 2, 2, out=5))) for kind in ("max", "mean")]
    f = builder.add(Concat((d, e, *pools, builder.add(Zeros(2, 5, 5)))))
    f = builder.add(Flatten(f))
    last = builder.add(Quantize(f, 2, builder.reals(rng.normal(size=builder.shapes[f].channels)), -1))
    count = builder.shapes[f].channels
    f = builder.add(BitConv(last, square(1, 1), 6, 1, bits(6 * count, 1), signs, signs, reals(6)))
    return finished(builder, f, rng)


def sign_of_each_pixel(threshold: float, turned: bool) -> Program:
    """Of 1 x 8 grey numbers that pass as they are: logit i is +1 or -1, by how pixel i compares."""
    builder = Builder()
    builder.add(Image(1, 1, 8, builder.reals(np.zeros(1)), builder.reals(np.ones(1))))
    flip = builder.bits(np.ones(1)) if turned else -1
    builder.add(Quantize(0, 2, builder.reals(np.array([threshold])), flip))
    window = Window((1, 1), (1, 1), (1, 1), (0, 0), (1, 8))
    builder.add(BitConv(1, window, 1, 1, builder.bits(np.ones(1)), (-1, 1), (-1, 1), builder.reals(np.ones(1))))
    builder.add(Flatten(2))
    return builder.program({"classes": list("abcdefgh")})


@st.composite
def layers(draw: st.DrawFn) -> Program:
    """One convolution of any geometry, or one pool that a program may hold."""
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    groups = draw(st.sampled_from((1, 2)))
    builder = begun(4, *size)
    op: Op
    if draw(st.booleans()):
        window = Window(*_geometry(draw, size, pool=False))
        weight = builder.reals(rng.normal(size=(6, 4 // groups, prod(window.kernel))))
        op = Conv(0, window, 6, groups, weight, 32, 0, -1)
    else:
        window = Window(*_geometry(draw, size, pool=True))
        op = Pool(0, draw(st.sampled_from(("max", "mean", "mean_padded"))), window)
    return finished(builder, builder.add(op), rng)


def _geometry(draw: st.DrawFn, size: tuple[int, ...], *, pool: bool) -> tuple[tuple[int, int], ...]:
    axes = []
    for length in size:
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        dilation = 1 if pool else draw(st.integers(1, 3))
        reach = (kernel - 1) * dilation
        origin = draw(st.integers(-reach if pool else -reach - 2, 0 if pool else length - 1))
        most = (length - 1 - origin) // stride + 1 if pool else 8
        count = draw(st.integers(1, most))
        assume((count - 1) * stride + reach + origin >= 0)  # no layer looks at padding only
        axes.append((kernel, stride, dilation, origin, count))
    first, second = axes
    return tuple(zip(first, second, strict=True))
