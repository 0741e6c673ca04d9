"""The exported model computes what the program computes, in ONNX Runtime."""

import json
import sys

import numpy as np
import pytest
from float_programs import everything, layers, noise, sign_of_each_pixel
from hypothesis import given, settings

from binarch.deploy import check_onnx, to_onnx
from binarch.deploy.onnx import onnx_session
from binarch.errors import UserError
from binarch.runtime import Program, reference


def answers(program: Program, images: np.ndarray, batch: int | None = None) -> np.ndarray:
    pytest.importorskip("onnx", reason="onnx is not installed (extra: bench)")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: bench)")
    return onnx_session(to_onnx(program, batch), threads=1).run(None, {"images": images})[0]


@pytest.mark.parametrize("seed", range(5))
def test_every_instruction_agrees_with_the_reference(seed: int) -> None:
    program, images = everything(seed), noise((3, 3, 9, 9), seed)
    np.testing.assert_allclose(answers(program, images), reference.run(program, images), rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(layers())
def test_any_window_agrees_with_the_reference(program: Program) -> None:
    image = program.image
    images = noise((2, image.channels, image.height, image.width))
    np.testing.assert_allclose(answers(program, images), reference.run(program, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 1.0, -np.inf, np.inf])
def test_ties_and_infinite_thresholds_count_as_the_program_says(turned: bool, threshold: float) -> None:
    program = sign_of_each_pixel(threshold, turned)
    x = np.array([-np.inf, -1, -1e-30, -0.0, 0.0, 1e-30, 1, np.inf], np.float32).reshape(1, 1, 1, 8)
    np.testing.assert_array_equal(answers(program, x), reference.run(program, x))


def test_the_batch_is_free_or_fixed() -> None:
    program = everything()
    for count in (1, 4):
        assert answers(program, noise((count, 3, 9, 9))).shape == (count, 3)
    assert answers(program, noise((2, 3, 9, 9)), batch=2).shape == (2, 3)
    with pytest.raises(Exception, match="Got: 3 Expected: 2"):
        answers(program, noise((3, 3, 9, 9)), batch=2)


def test_names_and_metadata() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra: bench)")
    program = everything()
    model = onnx.load_from_string(to_onnx(program))
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["logits"]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata == {"classes": program.classes, "card": dict(program.card)}


def test_binary_weights_become_plus_and_minus_their_scale() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra: bench)")
    model = onnx.load_from_string(to_onnx(sign_of_each_pixel(0.0, turned=False)))
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    weights = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    np.testing.assert_array_equal(weights[convolution.input[1]].flatten(), [1])


def test_the_check_compares_with_the_packed_runtime() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra: bench)")
    program = everything()
    found = check_onnx(to_onnx(program), program, count=8)
    assert found["same_class"] == 8
    assert found["largest_difference"] < 1e-5
    other = check_onnx(to_onnx(everything(seed=1)), program, count=8)
    assert other["largest_difference"] > 1e-2


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"onnx is not installed; pip install '\.\[bench\]'"):
        to_onnx(everything())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime is not installed" in check_onnx(b"", everything())["checked"]
