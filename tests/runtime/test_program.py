"""Programs: what is checked when one is built, and what a file must hold."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from random_programs import random_graph

from binarch.errors import UserError
from binarch.runtime import Program, container, load
from binarch.runtime.ops import Add, BitConv, Conv, Flatten, Image, Mean, Op, Quantize, Window, Zeros
from binarch.runtime.program import MOST_OPS

ONE = Window((1, 1), (1, 1), (1, 1), (0, 0), (4, 4))
OPS: tuple[Op, ...] = (
    Image(3, 4, 4, 0, 3),
    Quantize(0, 2, 6, 0),
    BitConv(1, ONE, 2, 1, 1, (-1, 1), (-1, 1), 9),
    Mean(2),
)
BITS = np.array([0b101, 0b110001], np.uint8)
REALS = np.array([0, 0, 0, 1, 1, 1, 0.25, 0.5, 0.75, 1, -2], np.float32)
CARD = {"classes": ["cat", "dog"], "about": "äö"}


def program(**changes: Any) -> Program:
    return Program(**({"ops": OPS, "bits": BITS, "reals": REALS, "card": CARD} | changes))


def changed(index: int, **changes: Any) -> tuple[Op, ...]:
    return (*OPS[:index], replace(OPS[index], **changes), *OPS[index + 1 :])


def test_shapes_and_names() -> None:
    assert [shape.dims for shape in program().shapes] == [(3, 4, 4), (3, 4, 4), (2, 4, 4), (2, 1, 1)]
    assert program().shapes[1].levels == 2
    assert program().classes == ["cat", "dog"]
    assert program().image == OPS[0]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"ops": ()}, "0 instructions; 1 to"),
        ({"ops": OPS[1:]}, "first instruction, and no other, must be the image"),
        ({"ops": (*OPS[:3], OPS[0])}, "first instruction, and no other"),
        ({"ops": changed(3, x=3)}, r"instruction 3 reads values \(3,\)"),
        ({"ops": changed(3, x=-1)}, "instruction 3 reads values"),
        ({"ops": changed(1, x=2)}, "instruction 1 reads values"),
        ({"ops": (*OPS[:3], Add(2, 7))}, "instruction 3 reads values"),
        ({"ops": changed(0, mean=-1)}, r"instruction 0 \(image\) reads beyond the 11 reals"),
        ({"ops": changed(0, std=9)}, r"instruction 0 \(image\) reads beyond the 11 reals"),
        ({"ops": changed(1, thresholds=9)}, r"instruction 1 \(quantize\) reads beyond the 11 reals"),
        ({"ops": changed(1, flip=2)}, r"instruction 1 \(quantize\) reads beyond the 2 bits"),
        ({"ops": changed(2, weight=2)}, r"instruction 2 \(bitconv\) reads beyond the 2 bits"),
        ({"ops": changed(2, weight=-1)}, "reads beyond the 2 bits"),
        ({"ops": changed(2, scale=10)}, r"instruction 2 \(bitconv\) reads beyond the 11 reals"),
        ({"ops": changed(2, scale=1 << 39)}, "reads beyond"),
        ({"bits": BITS[:1]}, "reads beyond the 1 bits"),
        ({"bits": BITS[:0]}, "reads beyond the 0 bits"),
        ({"reals": REALS[:10]}, "reads beyond the 10 reals"),
        ({"reals": np.append(REALS, np.float32(np.nan))}, "not a number"),
        ({"card": {}}, "no class names"),
        ({"card": {"classes": "cat"}}, "no class names"),
        ({"card": {"classes": ["cat", 2]}}, "no class names"),
        ({"card": {"classes": ["cat"]}}, r"1 classes, but the last value is \(2, 1, 1\)"),
        ({"ops": OPS[:3]}, r"2 classes, but the last value is \(2, 4, 4\)"),
        ({"ops": (Image(2, 1, 1, 0, 3), Quantize(0, 2, 6, -1))}, "2 classes, but"),
    ],
    ids=str,
)
def test_what_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        program(**changes)


def test_offsets_up_to_the_very_end_are_fine() -> None:
    assert len(REALS) == OPS[2].scale + 2  # type: ignore[attr-defined]
    assert len(BITS) == OPS[2].weight + 1  # type: ignore[attr-defined]
    program()


def test_endless_programs_are_refused() -> None:
    zeros = Zeros(1, 1, 1)
    ops = (OPS[0], *[zeros] * (MOST_OPS - 1))
    Program(ops, BITS, REALS, {"classes": ["x"]})
    with pytest.raises(UserError, match="instructions"):
        Program((*ops, zeros), BITS, REALS, {"classes": ["x"]})
    wide = Window((64, 64), (1, 1), (1, 1), (0, 0), (4096, 4096))
    image = Image(1, 1, 1, 0, 3)
    convs = [Conv(0, wide, 1, 1, 0, 1, 0, -1)] * 30
    with pytest.raises(UserError, match="more work than any network"):
        Program((image, *convs, Mean(1)), np.zeros(512, np.uint8), REALS, {"classes": ["x"]})


def assert_same(one: Program, other: Program) -> None:
    assert one.ops == other.ops
    assert one.card == other.card
    assert one.bits.tobytes() == other.bits.tobytes()
    assert one.reals.tobytes() == other.reals.tobytes()
    assert (other.bits.dtype, other.reals.dtype) == (np.uint8, np.float32)


@pytest.mark.parametrize("seed", range(30))
def test_round_trip(seed: int) -> None:
    original = random_graph(Random(seed))
    raw = original.encode()
    again = Program.decode(raw, "x")
    assert_same(original, again)
    assert again.encode() == raw


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    program().save(path)
    assert_same(program(), Program.load(path))
    assert [child.name for child in path.parent.iterdir()] == [path.name]  # nothing unfinished is left
    assert load(path).classes == load(str(path)).classes == ["cat", "dog"]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.safetensors: cannot be read"):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


def sealed(metadata: dict[str, str], reals: np.ndarray = REALS, bits: np.ndarray = BITS) -> bytes:
    """A file with a hash that fits, made as docs/packed-format.md says."""
    parts = metadata["program"].encode(), metadata["card"].encode(), reals.tobytes(), bits.tobytes()
    summed = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()
    return container.encode({"reals": reals, "bits": bits}, metadata | {"sha256": summed})


def metadata(**changes: str) -> dict[str, str]:
    _, found = container.decode(program().encode(), "x")
    return found | changes


def test_the_hash_is_the_documented_one() -> None:
    assert sealed(metadata()) == program().encode()


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"version": "2"}, "is of version '2', this binarch reads 1"),
        ({"version": "1.0"}, "is of version"),
        ({"version": "x" * 1000}, "is of version"),
        ({"format": "pt"}, "is not a packed network"),
        ({"program": "["}, "its instructions are no JSON"),
        ({"program": "[" * 100_000}, "its instructions are no JSON"),
        ({"program": "{}"}, "its instructions are no JSON"),
        ({"program": "[]"}, r"is not a sound program \(0 instructions"),
        ({"program": '[["nothing", 1]]'}, "is not a sound program"),
        ({"card": "[]"}, "its instructions are no JSON"),
        ({"card": "{}"}, r"is not a sound program \(the card has no class names"),
        ({"card": ""}, "its instructions are no JSON"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_files_that_are_refused(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError, match=r"^some\.file: .*" + reason) as caught:
        Program.decode(sealed(metadata(**changes)), "some.file")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("missing", ["format", "version", "sha256", "card", "program"])
def test_metadata_that_is_missing(missing: str) -> None:
    left = {name: value for name, value in metadata().items() if name != missing}
    with pytest.raises(UserError, match="x: "):
        Program.decode(container.encode({"reals": REALS, "bits": BITS}, left), "x")


@pytest.mark.parametrize(
    "tensors",
    [{"reals": REALS}, {"bits": BITS}, {"reals": REALS, "bits": BITS, "more": BITS}, {"reals": BITS, "bits": REALS}],
    ids=list,
)
def test_tensors_that_are_missing_or_mistaken(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match="x: "):
        Program.decode(container.encode(tensors, metadata()), "x")


@pytest.mark.parametrize("name", ["program", "card"])
def test_text_that_is_no_unicode_is_an_error(name: str) -> None:
    """JSON can spell half a surrogate pair, which no bytes stand for."""
    raw = container.encode({"reals": REALS, "bits": BITS}, metadata(**{name: "\ud800"}))
    with pytest.raises(UserError):
        Program.decode(raw, "x")


def test_any_changed_byte_is_noticed() -> None:
    raw = program().encode()
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        try:
            found = Program.decode(bytes(damaged), "x")
        except UserError:
            continue
        assert_same(program(), found)  # a blank in the header may have become another one


def test_numbers_beyond_all_bounds_are_refused_in_plain_words() -> None:
    text = json.loads(metadata()["program"])
    text[3] = ["clip", 2, 0, 10**400]
    with pytest.raises(UserError):
        Program.decode(sealed(metadata(program=json.dumps(text))), "x")


def test_last_value_may_be_a_flat_map() -> None:
    ops = (*OPS[:3], Flatten(2))
    names = {"classes": ["x"] * 32}
    assert program(ops=ops, card=names).shapes[-1].dims == (32, 1, 1)
