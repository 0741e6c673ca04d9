"""Instructions: their plain form, their shapes, and what they refuse."""

import json
import math
from dataclasses import fields, replace
from math import prod
from typing import Any

import pytest

from binarch.errors import UserError
from binarch.runtime.ops import (
    OPS,
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
    from_plain,
    to_plain,
)

SEEN = Window((3, 5), (1, 2), (2, 1), (-2, -3), (7, 4))
POOLED = Window((3, 3), (2, 2), (1, 1), (-1, -1), (4, 4))
CONV = Conv(0, SEEN, 6, 2, 10, 32, 0, -1)
BITCONV = BitConv(0, SEEN, 6, 2, 10, (-1, 1), (-1, 1), 3)
EXAMPLES: list[Op] = [
    Image(3, 32, 30, 0, 3), CONV, replace(CONV, weight_bits=2, bias=5), Quantize(0, 4, 7, -1), BITCONV,
    replace(BITCONV, weight_values=(-1, 0, 0, 1)), Affine(0, 1, 2), PRelu(0, 4), Clip(0, -1.0, 3.5), Shuffle(0, 4),
    Add(0, 1), Concat((0, 1, 0)), Pool(0, "max", POOLED), Mean(0), Flatten(0), Zeros(2, 3, 4),
]  # fmt: skip
REAL, CODES = Shape(4, 7, 8), Shape(4, 7, 8, 2)


def test_there_is_an_example_of_every_instruction() -> None:
    assert {op.name for op in EXAMPLES} == set(OPS)
    assert all(OPS[op.name] is type(op) for op in EXAMPLES)


@pytest.mark.parametrize("op", EXAMPLES, ids=lambda op: op.name)
def test_plain_form_round_trip(op: Op) -> None:
    plain = to_plain(op)
    assert plain[0] == op.name
    assert len(plain) == 1 + len(fields(op))
    assert from_plain(plain) == op
    assert from_plain(json.loads(json.dumps(plain))) == op


def test_plain_form_of_a_window() -> None:
    assert to_plain(Pool(3, "max", POOLED)) == ["pool", 3, "max", [[3, 3], [2, 2], [1, 1], [-1, -1], [4, 4]]]


@pytest.mark.parametrize("op", EXAMPLES, ids=lambda op: op.name)
@pytest.mark.parametrize(
    "value", [None, True, "x", 1.5, [], {}, [[]], 1 << 50, -(1 << 50), [1.5], [True], math.nan], ids=str
)
def test_fields_of_the_wrong_type(value: Any, op: Op) -> None:
    """No field takes all of these, and none makes anything but a UserError of them."""
    plain = to_plain(op)
    taken = 0
    for index in range(1, len(plain)):
        try:
            from_plain([*plain[:index], value, *plain[index + 1 :]])
            taken += 1
        except UserError:
            pass
    allowed = {"x": 1 if op.name == "pool" else 0, "1.5": 2, "[]": len(plain), str(1 << 50): 2, str(-(1 << 50)): 2}
    assert taken <= allowed.get(str(value), 0)


@pytest.mark.parametrize(
    "plain",
    [None, 3, "image", [], [3], [[]], ["nothing"], ["image"], ["mean", 0, 0], {"image": 1}, ["add", 0], ["Mean", 0]],
    ids=str,
)
def test_no_instruction_at_all(plain: Any) -> None:
    with pytest.raises(UserError):
        from_plain(plain)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(UserError):
        from_plain(["clip", 0, 0.0, 10**400])


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": (0, 3)}, {"kernel": (3, 65)}, {"stride": (0, 1)}, {"stride": (1, 65)}, {"dilation": (0, 1)},
        {"dilation": (65, 1)}, {"origin": (-4097, 0)}, {"origin": (0, 4097)}, {"size": (0, 4)}, {"size": (4, 4097)},
    ],
    ids=str,
)  # fmt: skip
def test_windows_that_are_not_possible(change: dict[str, tuple[int, int]]) -> None:
    (name,) = change
    with pytest.raises(UserError, match=rf"{name}: .* is not possible; -?\d+ to \d+"):
        replace(SEEN, **change)


@pytest.mark.parametrize("dims", [(0, 1, 1), (1, 0, 1), (1, 1, -1), (1 << 24, 1, 2), (1 << 10, 1 << 10, 1 << 10)])
def test_maps_that_are_not_possible(dims: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="is not possible"):
        Shape(*dims)


def test_taps_go_row_by_row() -> None:
    window = Window((2, 3), (1, 1), (3, 2), (-1, 5), (1, 1))
    assert window.taps() == [(-1, 5), (-1, 7), (-1, 9), (2, 5), (2, 7), (2, 9)]


@pytest.mark.parametrize(
    "op, inputs, shape",
    [
        (Image(3, 32, 30, 0, 3), [], Shape(3, 32, 30)),
        (CONV, [REAL], Shape(6, 7, 4)),
        (BITCONV, [CODES], Shape(6, 7, 4)),
        (Quantize(0, 16, 0, -1), [REAL], Shape(4, 7, 8, 16)),
        (Affine(0, 0, 0), [REAL], REAL),
        (Shuffle(0, 2), [REAL], REAL),
        (Add(0, 1), [REAL, REAL], REAL),
        (Concat((0, 1)), [REAL, Shape(2, 7, 8)], Shape(6, 7, 8)),
        (Pool(0, "mean", POOLED), [REAL], Shape(4, 4, 4)),
        (Mean(0), [REAL], Shape(4, 1, 1)),
        (Flatten(0), [REAL], Shape(224, 1, 1)),
        (Zeros(2, 3, 4), [], Shape(2, 3, 4)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_shapes(op: Op, inputs: list[Shape], shape: Shape) -> None:
    assert op.shape(inputs) == shape


@pytest.mark.parametrize(
    "op, inputs, reason",
    [
        *[(op, [CODES] * len(op.inputs), "codes stand where real numbers must") for op in EXAMPLES
          if op.inputs and op.name != "bitconv"],
        (BITCONV, [REAL], "values: 2 for codes of 0 levels"),
        (BITCONV, [Shape(4, 7, 8, 3)], "values: 2 for codes of 3 levels"),
        (replace(BITCONV, weight_values=(-1, 0, 1)), [CODES], "weight_values: 2 or 4"),
        (replace(BITCONV, weight_values=(-4, 1)), [CODES], "weight_values: .* -3 to 3"),
        (replace(BITCONV, values=(-16, 1)), [CODES], "values: .* -15 to 15"),
        (replace(BITCONV, groups=3), [CODES], "groups: 3 does not divide 4 and 6"),
        (replace(BITCONV, groups=0), [CODES], "groups: 0"),
        (replace(BITCONV, groups=-2), [CODES], "groups: -2"),
        (replace(BITCONV, groups=4), [CODES], "groups: 4 does not divide 4 and 6"),
        (replace(BITCONV, values=(-15, 15), groups=1), [Shape(600, 7, 8, 2)], "135000 does not fit 16 bits"),
        (replace(BITCONV, out=1 << 30), [CODES], "map of"),
        (replace(BITCONV, out=0), [CODES], "map of"),
        (replace(CONV, groups=3), [REAL], "groups"),
        (replace(CONV, weight_bits=4), [REAL], "weight_bits: 4 is not possible; 1, 2 or 32"),
        (replace(CONV, out=-2), [REAL], "map of"),
        (Quantize(0, 1, 0, -1), [REAL], "levels: 1 is not possible; 2 to 16"),
        (Quantize(0, 17, 0, -1), [REAL], "levels: 17"),
        (Shuffle(0, 3), [REAL], "groups: 3 does not divide 4"),
        (Shuffle(0, 0), [REAL], "groups: 0"),
        (Add(0, 1), [REAL, Shape(4, 8, 7)], "cannot be added"),
        (Concat((0, 1)), [REAL, Shape(4, 8, 7)], "different sizes"),
        (Concat(()), [], "concatenated"),
        (Pool(0, "min", POOLED), [REAL], "kind: 'min' is unknown; max, mean or mean_padded"),
        (Pool(0, "max", replace(POOLED, size=(5, 4))), [REAL], "holds no pixel"),
        (Pool(0, "max", replace(POOLED, origin=(1, 0))), [REAL], "holds no pixel"),
        (Pool(0, "max", replace(POOLED, origin=(-3, 0))), [REAL], "holds no pixel"),
        (Pool(0, "max", replace(POOLED, dilation=(2, 1))), [REAL], "holds no pixel"),
        (Zeros(0, 3, 4), [], "map of"),
    ],
    ids=lambda value: value.name if isinstance(value, Op) else "",
)  # fmt: skip
def test_what_instructions_refuse(op: Op, inputs: list[Shape], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        op.shape(inputs)


def test_what_instructions_refer_to() -> None:
    assert CONV.reals([REAL]) == {"weight": 6 * 2 * 15}
    assert CONV.bits([REAL]) == {}
    packed = replace(CONV, weight_bits=2, bias=0)
    assert (packed.bits([REAL]), packed.reals([REAL])) == ({"weight": 45}, {"levels": 4, "bias": 6})
    assert (BITCONV.bits([CODES]), BITCONV.reals([CODES])) == ({"weight": 23}, {"scale": 6})  # 180 bits
    assert replace(BITCONV, weight_values=(-1, 0, 0, 1)).bits([CODES]) == {"weight": 45}
    assert Quantize(0, 4, 0, 0).bits([Shape(9, 1, 1)]) == {"flip": 2}
    assert Quantize(0, 4, 0, -1).bits([Shape(9, 1, 1)]) == {}
    assert Quantize(0, 4, 0, -1).reals([Shape(9, 1, 1)]) == {"thresholds": 27}
    strides = prod(CONV.window.stride)
    assert BITCONV.work([CODES]) == CONV.work([REAL]) / strides == 180 * 28
