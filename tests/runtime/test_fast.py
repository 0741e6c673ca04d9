"""The fast kernels against the reference, bit for bit, on programs drawn at random."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import (
    Sketch,
    planes,
    random_chain,
    random_convolution,
    random_graph,
    random_linear,
    some_images,
    with_idle,
)

from binarch.runtime import Network, Program, reference
from binarch.runtime.ops import BitConv, Shape, Window

CHANCES = st.randoms(use_true_random=False)
EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True)


def assert_equal(program: Program, images: np.ndarray) -> None:
    np.testing.assert_array_equal(Network(program).run(images), reference.run(program, planes(images)))


@EXAMPLES
@given(CHANCES, st.integers(1, 4))
def test_a_binary_convolution(chance: Random, batch: int) -> None:
    program = random_convolution(chance)
    assert_equal(program, some_images(program, batch))


@EXAMPLES
@given(CHANCES)
def test_the_integers_of_a_binary_convolution(chance: Random) -> None:
    program = random_convolution(chance, scaled=False)
    images = some_images(program, 2)
    values = reference.trace(program, planes(images))
    ((index, op),) = [(i, op) for i, op in enumerate(program.ops) if isinstance(op, BitConv)]
    sums = reference.integers(op, program, values[op.x])
    assert sums.dtype == np.int64
    np.testing.assert_array_equal(Network(program).run(images), sums.reshape(2, -1))
    np.testing.assert_array_equal(values[index], sums)


@pytest.mark.parametrize("make", [random_convolution, random_linear])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in multiply:RuntimeWarning")
def test_scales_near_the_ends_of_the_range(make: Callable[[Random], Program]) -> None:
    """One rounding of the whole product: subnormal and overflowing ones included."""
    extreme = np.array([9e37, -1e37, 1e-45, -3e-45, 1.2e-38, 1e-40, 0], np.float32)
    for seed in range(60):
        program = make(Random(seed))
        (op,) = (op for op in program.ops if isinstance(op, BitConv))
        reals = program.reals.copy()
        reals[op.scale : op.scale + op.out] = np.random.default_rng(seed).choice(extreme, op.out)
        assert_equal(replace(program, reals=reals), some_images(program, 1, seed))


@EXAMPLES
@given(CHANCES)
def test_a_fully_connected_binary_layer(chance: Random) -> None:
    program = random_linear(chance)
    assert_equal(program, some_images(program, 3))


@EXAMPLES
@given(CHANCES, st.integers(1, 3))
def test_any_layers_in_any_order(chance: Random, batch: int) -> None:
    program = random_graph(chance)
    assert_equal(program, some_images(program, batch))


@pytest.mark.parametrize("threads, count", [(2, 30), (3, 5)])
def test_an_image_split_between_threads(threads: int, count: int) -> None:
    for seed in range(count):
        program = random_graph(Random(seed))
        (image,) = some_images(program, 1, seed)
        expected = reference.run(program, planes(image[None]))[0]
        np.testing.assert_array_equal(Network(program, threads).run(image), expected)


@settings(EXAMPLES, max_examples=50)
@given(CHANCES)
def test_instructions_that_nothing_reads_change_nothing(chance: Random) -> None:
    program = random_graph(chance)
    images = some_images(program, 2)
    np.testing.assert_array_equal(Network(with_idle(program, chance)).run(images), Network(program).run(images))


@pytest.mark.parametrize(
    "image, kernel, stride, groups, out",
    [
        (Shape(520, 3, 4), 3, 1, 1, 4),  # thousands of terms: many 8-bit sums
        (Shape(256, 14, 14), 3, 1, 1, 8),
        (Shape(36, 32, 32), 5, 1, 12, 36),
        (Shape(24, 33, 31), 3, 2, 6, 24),
        (Shape(130, 6, 6), 1, 1, 1, 5),
        (Shape(8, 3, 70), 7, 1, 8, 8),
        (Shape(1, 65, 65), 3, 3, 1, 2),
    ],
    ids=str,
)
def test_larger_convolutions(image: Shape, kernel: int, stride: int, groups: int, out: int) -> None:
    size = (image.height - 1) // stride + 1, (image.width - 1) // stride + 1
    window = Window((kernel, kernel), (stride, stride), (1, 1), (-(kernel // 2), -(kernel // 2)), size)
    for seed in range(4):
        sketch = Sketch(Random(seed), image)
        sketch.bitconv(0, window, groups, out, signs=True)
        assert_equal(sketch.program(), some_images(sketch.program(), 1, seed))


@pytest.mark.parametrize("count", [250, pytest.param(8000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [random_convolution, random_linear, random_chain, random_graph])
def test_many(make: Callable[[Random], Program], count: int) -> None:
    for seed in range(count):
        program = make(Random(seed))
        assert_equal(program, some_images(program, 2, seed))
