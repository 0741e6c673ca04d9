"""Every engine runs the same program; the float ones with the same answers."""

import shutil
import sys

import numpy as np
import pytest
from float_programs import everything, noise, sign_of_each_pixel

from binarch.deploy import ENGINES
from binarch.deploy.engines import Run
from binarch.deploy.floats import random_images
from binarch.errors import UserError
from binarch.runtime import Program, reference

FLOAT = ["torch", "torch-compile", "onnxruntime", "openvino"]


def prepared(name: str, program: Program, batch: int) -> Run:
    if name == "torch-compile" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch.compile needs a C++ compiler")
    try:
        return ENGINES[name].prepare(program, 1, batch)
    except UserError as error:
        pytest.skip(str(error))


def test_engines_bear_the_names_of_the_command_line() -> None:
    names = ["binarch", "torch", "torch-compile", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8"]
    assert list(ENGINES) == names
    assert all(engine.name == name for name, engine in ENGINES.items())


@pytest.mark.parametrize("name", ["binarch", *FLOAT])
def test_float_engines_agree_with_the_reference(name: str) -> None:
    images = noise((2, 3, 9, 9))
    expected = reference.run(everything(), images)
    np.testing.assert_allclose(prepared(name, everything(), 2)(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["onnxruntime-int8", "openvino-int8"])
def test_int8_engines_come_near(name: str) -> None:
    program, images = sign_of_each_pixel(0.5, turned=True), noise((16, 1, 1, 8))
    found = prepared(name, program, 16)(images)
    expected = reference.run(program, images)
    assert (np.abs(found - expected) < 0.1).mean() > 0.95


@pytest.mark.parametrize(
    ("name", "module"),
    [("onnxruntime", "onnx"), ("onnxruntime-int8", "onnxruntime"), ("openvino", "openvino"), ("openvino-int8", "nncf")],
)
def test_what_is_missing_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for part in [part for part in sys.modules if part.startswith(module + ".")]:
        monkeypatch.delitem(sys.modules, part)
    with pytest.raises(UserError, match=r"is not installed; pip install '\.\[bench\]'"):
        ENGINES[name].prepare(everything(), 1, 1)


def test_random_images_are_pixels_of_the_right_shape() -> None:
    images = random_images(everything(), 5)
    assert images.shape == (5, 3, 9, 9)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, np.rint(images * 255).astype(np.float32) / np.float32(255))
    assert np.array_equal(images, random_images(everything(), 5))
    assert not np.array_equal(images, random_images(everything(), 5, seed=1))
