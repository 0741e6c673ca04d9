"""docs/packed-format.md: every instruction and field is explained, and its example is a file that works."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from random_programs import planes

from binarch.runtime import Network, Program, reference
from binarch.runtime.ops import LARGEST_MAP, MOST_WORK, OPS, Op, Window
from binarch.runtime.program import FORMAT, MOST_OPS, VERSION

PAGE = (Path(__file__).parents[2] / "docs" / "packed-format.md").read_text()
IMAGE = np.array([[255, 0], [0, 255]], np.uint8)[:, :, None]

#: Types of the page by types of the classes.
TYPES = {
    "int": {"int", "value", "reals", "bits", "reals or bits"},
    "float": {"float"},
    "str": {"str"},
    "Window": {"window"},
    "tuple": {"ints", "values"},
}


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its rank."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def hexadecimal() -> bytes:
    """The example's bytes."""
    lines = re.findall(r"^ {4}[0-9a-f]{4}  ((?:[0-9a-f]{2} ?){1,16})", section("An example"), re.MULTILINE)
    return bytes.fromhex(" ".join(lines))


def test_instructions_stand_in_the_order_of_the_code() -> None:
    assert re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE) == list(OPS)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_fields_stand_in_their_order_with_their_types(op: type[Op]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", section(f"`{op.name}`"), re.MULTILINE)
    assert [name for name, _ in rows] == [field.name for field in fields(op)]
    for (name, kind), field in zip(rows, fields(op), strict=True):
        plain = getattr(field.type, "__name__", str(field.type)).partition("[")[0]
        assert kind in TYPES[plain], name


def test_the_parts_of_a_window() -> None:
    names = " and ".join(f"`{field.name}`" for field in fields(Window))
    assert names.replace(" and ", ", ", len(fields(Window)) - 2) in PAGE.replace("\n", " ")


def test_limits_are_those_of_the_code() -> None:
    assert PAGE.startswith(f"# The packed format, version {VERSION}\n")
    assert f"| `version` | `{VERSION}`" in PAGE
    assert f"| `format` | `{FORMAT}` |" in PAGE
    assert f"1 to {MOST_OPS:,} instructions" in PAGE
    assert (LARGEST_MAP, MOST_WORK, MOST_WORK >> 8) == (1 << 24, 1 << 36, 1 << 28)
    assert "more than 2^24 numbers" in PAGE
    assert "more than 2^36 multiply-accumulates, or 2^28 numbers" in PAGE


def test_the_example_loads_and_gives_the_stated_logits() -> None:
    raw = hexadecimal()
    program = Program.decode(raw, "the example")
    text = section("An example")
    assert f"{len(raw)} bytes" in text
    stated = re.search(r"The logits are ([\d.]+) and ([\d.]+)\.", text)
    assert stated
    logits = [float(number) for number in stated.groups()]
    assert Network(program).run(IMAGE).tolist() == logits
    assert program.encode() == raw
    (listed,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    assert json.loads(listed) == json.loads(metadata["program"])


def test_the_example_passes_through_the_stated_values() -> None:
    program = Program.decode(hexadecimal(), "the example")
    values = reference.trace(program, planes(IMAGE[None]))
    rows = re.findall(r"^\| (\d) \| `(\w+)` \| (.+?) \| (.*?) ?\|$", section("An example"), re.MULTILINE)
    assert [(int(index), name) for index, name, *_ in rows] == [(i, op.name) for i, op in enumerate(program.ops)]
    for index, _, *channels in rows:
        stated = [[float(n) for n in re.findall(r"-?[\d.]+", text)][:4] for text in channels if text]
        assert stated == values[int(index)][0].reshape(len(stated), -1).tolist()
