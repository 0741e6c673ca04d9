"""The float torch network of a program computes what the program computes."""

import numpy as np
import pytest
import torch
from float_programs import everything, layers, noise, sign_of_each_pixel
from hypothesis import given, settings

from binarch.deploy import torch_graph
from binarch.runtime import Program, reference

torch.set_num_threads(1)


def answers(program: Program, images: np.ndarray, layout: torch.memory_format = torch.contiguous_format) -> np.ndarray:
    network = torch_graph(program).to(memory_format=layout)
    with torch.inference_mode():
        return network(torch.from_numpy(images).contiguous(memory_format=layout)).numpy()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_instruction_agrees_with_the_reference(seed: int, layout: torch.memory_format) -> None:
    program, images = everything(seed), noise((3, 3, 9, 9), seed)
    np.testing.assert_allclose(answers(program, images, layout), reference.run(program, images), rtol=1e-4, atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(layers())
def test_any_window_agrees_with_the_reference(program: Program) -> None:
    image = program.image
    images = noise((2, image.channels, image.height, image.width))
    np.testing.assert_allclose(answers(program, images), reference.run(program, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 1.0, -np.inf, np.inf])
def test_ties_and_infinite_thresholds_count_as_the_program_says(turned: bool, threshold: float) -> None:
    program = sign_of_each_pixel(threshold, turned)
    x = np.array([-3e38, -1, -1e-45, -0.0, 0.0, 1e-45, 1, 3e38], np.float32).reshape(1, 1, 1, 8)
    expected = reference.run(program, x)
    assert set(expected.flatten()) <= {-1.0, 1.0}
    np.testing.assert_array_equal(answers(program, x), expected)


def test_codes_are_written_once_for_all_readers() -> None:
    code = torch_graph(everything()).code
    assert code.count("torch.copysign") == 3
    assert code.count("torch.where") == 6  # two readers of four levels that mean different numbers


def test_a_batch_norm_behind_a_convolution_disappears() -> None:
    code = torch_graph(everything()).code
    assert code.count("torch.add(") == 2
    assert code.count("torch.addcmul") == 2  # a turned sign, and the batch norm behind an addition
