"""A packed network: instructions, two tensors of trained numbers, and a card that says what it is."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from binarch.errors import UserError
from binarch.runtime import container
from binarch.runtime.container import is_text
from binarch.runtime.ops import MOST_WORK, BitConv, Image, Op, Quantize, Shape, from_plain, refuse, to_plain

FORMAT = "binarch-program"
VERSION = 1
#: Scales of binary convolutions stay below this, so that twice a scale is a number too.
LARGEST_SCALE = 1e38
#: Most instructions of a program.
MOST_OPS = 20_000


@final
@dataclass(frozen=True, eq=False)
class Program:
    """A network as a list of instructions; the last one's value, classes x 1 x 1, are the logits.

    Building one checks everything once: types, shapes, offsets, sizes, finite numbers. What runs it can trust it.
    """

    ops: tuple[Op, ...]
    bits: np.ndarray
    """uint8: packed weights and directions."""
    reals: np.ndarray
    """float32: scales, slopes, thresholds, real weights."""
    card: Mapping[str, Any]
    """What a person wants to know: classes, scheme, genotype, accuracy, data ... JSON; ``classes`` is always there."""

    def __post_init__(self) -> None:
        for name, kind in (("bits", np.uint8), ("reals", np.float32)):
            values = getattr(self, name)
            if values.dtype != kind or values.ndim != 1 or not values.flags.c_contiguous:
                raise refuse(
                    f"{name}: {values.dtype} of shape {values.shape}; one contiguous run of {kind.__name__} is needed"
                )
        self.shapes  # noqa: B018 (checks the instructions)
        if np.isnan(self.reals).any():
            raise refuse("a trained number is not a number")
        for op in self.ops:
            if isinstance(op, BitConv) and not (np.abs(self.reals[op.scale : op.scale + op.out]) < LARGEST_SCALE).all():
                raise refuse(f"a scale of {LARGEST_SCALE:g} or more is not possible")
            if isinstance(op, Quantize):
                count = self.shapes[op.x].channels * (op.levels - 1)
                limits = self.reals[op.thresholds : op.thresholds + count].reshape(-1, op.levels - 1)
                if (limits[:, 1:] < limits[:, :-1]).any():
                    raise refuse("thresholds must ascend")
        classes = self.card.get("classes")
        if not isinstance(classes, list) or not all(map(is_text, classes)):
            raise refuse("the card has no class names")
        if self.shapes[-1].levels or self.shapes[-1].dims != (len(classes), 1, 1):
            raise refuse(f"{len(classes)} classes, but the last value is {self.shapes[-1].dims}")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The value of each instruction."""
        if not self.ops or len(self.ops) > MOST_OPS:
            raise refuse(f"{len(self.ops)} instructions; 1 to {MOST_OPS} are possible")
        shapes: list[Shape] = []
        work = 0
        for index, op in enumerate(self.ops):
            if isinstance(op, Image) != (index == 0):
                raise refuse("the first instruction, and no other, must be the image")
            if not all(0 <= x < index for x in op.inputs):
                raise refuse(f"instruction {index} reads values {op.inputs}, which are not there yet")
            inputs = [shapes[x] for x in op.inputs]
            shapes.append(op.shape(inputs))
            for kind, needs in (("bits", op.bits(inputs)), ("reals", op.reals(inputs))):
                room = len(getattr(self, kind))
                if not all(0 <= getattr(op, field) <= room - length for field, length in needs.items()):
                    raise refuse(f"instruction {index} ({op.name}) reads beyond the {room} {kind}")
            work += op.work(inputs)
        if work > MOST_WORK or sum(shape.channels * shape.height * shape.width for shape in shapes) > MOST_WORK >> 8:
            raise refuse("it would take more work than any network for pictures")
        return tuple(shapes)

    @property
    def image(self) -> Image:
        """The first instruction."""
        assert isinstance(self.ops[0], Image)
        return self.ops[0]

    @property
    def classes(self) -> list[str]:
        """Names of the logits."""
        return self.card["classes"]

    def inputs(self, index: int) -> list[Shape]:
        """Shapes of what instruction ``index`` reads."""
        return [self.shapes[x] for x in self.ops[index].inputs]

    def encode(self) -> bytes:
        """The file's content."""
        text = json.dumps([to_plain(op) for op in self.ops], separators=(",", ":"), allow_nan=False)
        card = json.dumps(dict(self.card), separators=(",", ":"), sort_keys=True)
        reals, bits = self.reals.astype("<f4"), self.bits.astype("<u1")
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "sha256": _digest(text, card, reals, bits),
            "card": card,
            "program": text,
        }
        return container.encode({"reals": reals, "bits": bits}, metadata)

    @classmethod
    def decode(cls, raw: bytes, where: str) -> "Program":
        """Read and check a file's content; errors name ``where``."""
        tensors, metadata = container.decode(raw, where)
        if metadata.get("format") != FORMAT or set(tensors) != {"reals", "bits"}:
            raise UserError(f"{where}: is not a packed network; make one with binarch pack")
        if metadata.get("version") != str(VERSION):
            raise UserError(
                f"{where}: is of version {metadata.get('version', '')[:20]!r}, this binarch reads {VERSION}"
            )
        reals, bits = tensors["reals"], tensors["bits"]
        text, card = metadata.get("program", ""), metadata.get("card", "")
        if reals.dtype != np.dtype("<f4") or bits.dtype != np.dtype("<u1"):
            raise UserError(f"{where}: its tensors have the wrong types; pack it again with binarch pack")
        if metadata.get("sha256") != _digest(text, card, reals, bits):
            raise UserError(f"{where}: is damaged (its hash does not fit); copy or pack it again")
        try:
            plain, facts = json.loads(text), json.loads(card)
            if not isinstance(plain, list) or not isinstance(facts, dict):
                raise ValueError
            return cls(tuple(from_plain(op) for op in plain), bits, reals.astype(np.float32), facts)
        except (ValueError, RecursionError):
            raise UserError(f"{where}: its instructions are no JSON; pack it again with binarch pack") from None
        except UserError as error:
            raise UserError(f"{where}: is not a sound program ({error}); pack it again with binarch pack") from None

    def save(self, path: Path) -> None:
        """Write the file; a reader sees the old one or the new one, whatever happens meanwhile."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with unfinished.open("wb") as file:
                    file.write(self.encode())
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another file") from None

    @classmethod
    def load(cls, path: Path) -> "Program":
        """Read and check a file."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); give a file that binarch pack wrote") from None
        return cls.decode(raw, str(path))


def _digest(text: str, card: str, reals: np.ndarray, bits: np.ndarray) -> str:
    parts = (text.encode(), card.encode(), reals.tobytes(), bits.tobytes())
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()
