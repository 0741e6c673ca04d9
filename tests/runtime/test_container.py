"""The container: what goes in comes out, here and with the safetensors library; damage is a clear error."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from binarch.errors import UserError
from binarch.runtime import container

TENSORS: dict[str, np.ndarray] = {
    "reals": np.array([1.5, -0.0, np.inf, 3e-45], np.float32),
    "bits": np.array([0, 255, 7], np.uint8),
    "empty": np.zeros(0, np.uint8),
}
METADATA = {"format": "something", "text": 'quotes " and umlauts äöü \n and 中'}


def raw_file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def assert_same(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    assert metadata == METADATA
    assert set(tensors) == set(TENSORS)
    for name, expected in TENSORS.items():
        assert tensors[name].dtype == expected.dtype
        assert tensors[name].tobytes() == expected.tobytes()


def test_round_trip() -> None:
    raw = container.encode(TENSORS, METADATA)
    assert_same(*container.decode(raw, "x"))
    assert raw == container.encode(TENSORS, METADATA)
    (length,) = struct.unpack("<Q", raw[:8])
    assert length % 8 == 0  # tensors begin on a multiple of 8


def test_the_library_reads_our_files(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    path.write_bytes(container.encode(TENSORS, METADATA))
    with safe_open(path, "numpy") as file:
        assert_same({name: file.get_tensor(name) for name in file.keys()}, file.metadata())  # noqa: SIM118


def test_we_read_files_of_the_library() -> None:
    assert_same(*container.decode(save(TENSORS, METADATA), "x"))


def test_files_without_metadata_or_tensors() -> None:
    assert container.decode(save({}), "x") == ({}, {})
    assert container.decode(raw_file({}), "x") == ({}, {})


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} | changes}


DAMAGED = {
    "empty file": b"",
    "seven bytes": b"1234567",
    "length beyond the file": struct.pack("<Q", 3) + b"{}",
    "length of 2^64 - 1": b"\xff" * 8 + b"{}",
    "no JSON": raw_file(b"{"),
    "no UTF-8": raw_file(b'{"\xff": 1}'),
    "deep": raw_file(b"[" * 100_000),
    "huge integer": raw_file(b'{"a":' + b"9" * 5000 + b"}"),
    "a list": raw_file([]),
    "metadata is a list": raw_file({"__metadata__": []}),
    "metadata of numbers": raw_file({"__metadata__": {"a": 1}}),
    "entry is a number": raw_file({"a": 1}),
    "entry is a string": raw_file({"a": "U8"}),
    "entry is null": raw_file({"a": None}),
    "nothing but a dtype": raw_file({"a": {"dtype": "U8"}}),
    "unknown dtype": raw_file(entry(dtype="F64"), bytes(4)),
    "dtype is a list": raw_file(entry(dtype=["U8"]), bytes(4)),
    "two dimensions": raw_file(entry(shape=[2, 2]), bytes(4)),
    "no dimension": raw_file(entry(shape=[]), bytes(4)),
    "shape is a number": raw_file(entry(shape=4), bytes(4)),
    "shape is a string": raw_file(entry(shape="4"), bytes(4)),
    "shape is an object": raw_file(entry(shape={}), bytes(4)),
    "shape is true": raw_file(entry(shape=[True], data_offsets=[0, 1]), bytes(1)),
    "shape of a fraction": raw_file(entry(shape=[4.0]), bytes(4)),
    "negative shape": raw_file(entry(shape=[-4]), bytes(4)),
    "shape too small": raw_file(entry(shape=[3]), bytes(4)),
    "shape too large": raw_file(entry(shape=[1 << 80]), bytes(4)),
    "one offset": raw_file(entry(data_offsets=[0]), bytes(4)),
    "offsets swapped": raw_file(entry(data_offsets=[4, 0]), bytes(4)),
    "offsets with a gap": raw_file(entry(data_offsets=[1, 5]), bytes(5)),
    "negative offsets": raw_file(entry(data_offsets=[-4, 0]), bytes(4)),
    "data cut off": raw_file(entry(), bytes(3)),
    "data left over": raw_file(entry(), bytes(5)),
    "overlap": raw_file(entry() | {"b": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
    "half a number": raw_file(entry(dtype="F32", shape=[1], data_offsets=[0, 3]), bytes(3)),
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_an_error_of_one_line(raw: bytes) -> None:
    with pytest.raises(
        UserError, match=r"^some\.file: is not a packed network \(.*\); make one with binarch pack"
    ) as caught:
        container.decode(raw, "some.file")
    assert "\n" not in str(caught.value)


def test_any_cut_is_an_error() -> None:
    raw = container.encode(TENSORS, METADATA)
    for length in range(len(raw)):
        with pytest.raises(UserError):
            container.decode(raw[:length], "x")
