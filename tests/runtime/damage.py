"""Files of programs, damaged at random: bytes, header fields, instructions, tensors."""

import hashlib
import json
import math
from math import prod
from random import Random
from typing import Any

import numpy as np

from binarch.runtime import Program, container

ODD: list[Any] = [
    0, 1, -1, 2, 3, 4, 5, 7, 16, 31, 64, 65, 100, 255, 4095, 4096, 4097, 1 << 15, 1 << 24, 1 << 31, 1 << 40, 1 << 63,
    -(1 << 70), 10**400, 0.5, -1.5, 1e300, math.inf, -math.inf, math.nan, "", "max", "mean", "x", "\ud800", None, True,
    False, [], {}, [0], [1, 1], [-1, 1], [-1, 0, 0, 1], [0, 1, 2, 3], [[3, 3], [1, 1], [1, 1], [-1, -1], [8, 9]], [[]],
    {"a": 1},
]  # fmt: skip


def sealed(metadata: dict[str, str], reals: bytes, bits: bytes) -> bytes:
    """A file whose hash fits its content, sound or not."""
    texts = (metadata[name].encode("utf8", "surrogatepass") for name in ("program", "card"))
    summed = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in (*texts, reals, bits)))
    tensors = {"reals": np.frombuffer(reals[: len(reals) // 4 * 4], "<f4"), "bits": np.frombuffer(bits, "<u1")}
    return container.encode(tensors, metadata | {"sha256": summed.hexdigest()})


def damaged(raw: bytes, chance: Random) -> bytes:
    """A file, damaged in one of many ways; the hash fits again in most of them."""
    tensors, metadata = container.decode(raw, "")
    reals, bits = tensors["reals"].tobytes(), tensors["bits"].tobytes()
    match chance.randrange(10):
        case 0:
            return _bytes(raw, chance)
        case 1:
            return _header(raw, chance)
        case 2:
            name = chance.choice(["format", "version", "card", "program", "more"])
            metadata[name] = chance.choice(["", "x", "2", "{}", "[]", "[" * 5000, "\ud800"])
        case 3:
            metadata["card"] = json.dumps(_replaced(json.loads(metadata["card"]), chance))
        case 4:
            reals = _bytes(reals, chance)
        case 5:
            bits = _bytes(bits, chance)
        case _:
            plain = json.loads(metadata["program"])
            for _ in range(chance.choice([1, 1, 1, 2, 4])):
                plain = _instructions(plain, chance)
            metadata["program"] = json.dumps(plain)
    return sealed(metadata, reals, bits)


def _bytes(raw: bytes, chance: Random) -> bytes:
    """Flip bits; or cut, extend, overwrite or move a stretch."""
    changed = bytearray(raw)
    start, end = sorted(chance.choices(range(len(raw) + 1), k=2))
    match chance.randrange(6):
        case 0 | 1:
            for _ in range(chance.choice([1, 1, 2, 8])):
                changed[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        case 2:
            del changed[end:]
        case 3:
            changed += chance.randbytes(chance.randint(1, 64))
        case 4:
            count = min(end - start, 8)
            changed[start : start + count] = chance.choice([bytes(count), b"\xff" * count, chance.randbytes(count)])
        case _:
            del changed[start : min(end, start + chance.choice([1, 4, 64]))]
    return bytes(changed)


def _header(raw: bytes, chance: Random) -> bytes:
    """Replace something in the container's header."""
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    text = json.dumps(_replaced(header, chance)).encode()
    length = len(text) if chance.random() < 0.8 else chance.choice([0, 7, length, 1 << 20, 1 << 63])
    return length.to_bytes(8, "little") + text + raw[8 + length :] if length < 1 << 30 else raw[:8] + text


def _replaced(plain: Any, chance: Random) -> Any:
    """JSON with something in it replaced, at any depth."""
    if isinstance(plain, list | dict) and plain and chance.random() < 0.9:
        keys = list(range(len(plain)) if isinstance(plain, list) else plain)
        key = chance.choice(keys)
        copy = plain.copy()
        copy[key] = _replaced(copy[key], chance)
        return copy
    if type(plain) is int and chance.random() < 0.7:
        return plain + chance.choice([-1, 1, -2, 2, 8, -plain - plain, plain])
    return chance.choice(ODD)


def _instructions(plain: list[Any], chance: Random) -> list[Any]:
    """Change, swap, repeat, drop or rename instructions."""
    if not isinstance(plain, list) or len(plain) < 2:
        return plain
    one, other = chance.randrange(len(plain)), chance.randrange(len(plain))
    copy = list(plain)
    match chance.randrange(8):
        case 0:
            copy[one], copy[other] = copy[other], copy[one]
        case 1:
            copy.insert(one, copy[other])
        case 2:
            del copy[one]
        case 3 if isinstance(copy[one], list) and isinstance(copy[other], list) and copy[one] and copy[other]:
            copy[one] = [copy[other][0], *copy[one][1:]]
        case _:
            copy[one] = _replaced(copy[one], chance)
    return copy


def small_enough(program: Program) -> bool:
    """Whether the reference can run it in no time."""
    work = sum(op.work(program.inputs(index)) for index, op in enumerate(program.ops))
    return work < 1 << 22 and sum(prod(shape.dims) for shape in program.shapes) < 1 << 20
