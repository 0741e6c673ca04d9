"""The safetensors container, read and written with numpy alone.

Layout: 8 bytes little-endian header length n, n bytes of JSON, then raw tensors. The header maps each tensor's name to
``dtype``, ``shape`` and ``data_offsets``; ``__metadata__`` maps strings to strings. Files are interchangeable with the
``safetensors`` library, which would do, were it not for the promise that the runtime needs numpy and numba only.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from binarch.errors import UserError

_KINDS: dict[str, np.dtype] = {"U8": np.dtype("<u1"), "F32": np.dtype("<f4")}


def is_text(value: Any) -> bool:
    """Whether ``value`` is a string that can be written: JSON lets half characters through."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """One file: tensors in the order given, aligned to 8 bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, position = [], 0
    for name, tensor in tensors.items():
        kind = next(kind for kind, dtype in _KINDS.items() if dtype == tensor.dtype)
        raw = np.ascontiguousarray(tensor).tobytes()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [position, position + len(raw)]}
        parts.append(raw)
        position += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def decode(raw: bytes, where: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a file; anything but a sound one is a :class:`UserError` naming ``where``."""

    def fail(reason: str) -> UserError:
        return UserError(f"{where}: is not a packed network ({reason}); make one with binarch pack RUN --out FILE")

    if len(raw) < 8:
        raise fail(f"{len(raw)} bytes")
    (length,) = struct.unpack("<Q", raw[:8])
    if length > len(raw) - 8:
        raise fail("its header is cut off")
    try:
        header = json.loads(raw[8 : 8 + length].decode())
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise fail("its header is no JSON") from None
    if not isinstance(header, dict):
        raise fail("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(is_text(value) for value in metadata.values()):
        raise fail("its metadata are no strings")
    data = raw[8 + length :]
    tensors: dict[str, np.ndarray] = {}
    expected = 0
    for name, entry in header.items():
        try:
            dtype: np.dtype = _KINDS[entry["dtype"]]
            shape, (start, end) = entry["shape"], entry["data_offsets"]
            whole = all(type(n) is int and n >= 0 for n in (*shape, start, end))
            # Tensors must tile the data: no overlap, no gap, nothing left over.
            if not whole or start != expected or end > len(data) or len(shape) != 1:
                raise ValueError
            if (end - start) != shape[0] * dtype.itemsize:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise fail(f"tensor {name[:40]!r} is damaged") from None
        tensors[name] = np.frombuffer(data[start:end], dtype)
        expected = end
    if expected != len(data):
        raise fail("bytes are left over")
    return tensors, metadata
