"""How primitives are told in pictures: a short name that does not lie, and a family with its colour."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from binarch.spaces.genotype import Cell


@dataclass(frozen=True)
class Family:
    """Primitives that share a colour.

    ``colour`` is for lines and borders, ``tint`` for the ground of a label, ``ink`` for text on the tint.
    Families without parameters have dashed lines, so that colour is never the only sign.
    """

    name: str
    colour: str
    tint: str
    ink: str
    dashed: bool = False


# Hues after Okabe and Ito, which stay apart under the common kinds of colour blindness.
CONV_1X1: Final = Family("conv 1x1", "#7a68c9", "#ecebfa", "#3d2f8f")
CONV_3X3: Final = Family("conv 3x3", "#2f7fbf", "#e3f0fa", "#0f4672")
CONV_5X5: Final = Family("conv 5x5", "#d55e00", "#fdebdf", "#853a00")
CONV_7X7: Final = Family("conv 7x7", "#a8518f", "#f7e6f2", "#6b2557")
DILATED: Final = Family("dilated conv", "#0f9b78", "#dff4ed", "#07553f")
POOL: Final = Family("pool", "#c99700", "#fdf4d8", "#6b5000", dashed=True)
SKIP: Final = Family("skip", "#7b8794", "#eef1f4", "#3b4754", dashed=True)
NONE: Final = Family("none", "#b4bcc6", "#f8f9fa", "#6b7684", dashed=True)

FAMILIES: Final = (CONV_1X1, CONV_3X3, CONV_5X5, CONV_7X7, DILATED, POOL, SKIP, NONE)

# What the word "conv" of a primitive builds, per space.
_CONVOLUTION: Final = {"bats": "grouped conv", "darts": "sep conv"}
_CONV = re.compile(r"(?:(sep|dil)_)?conv_(\d+x\d+)")
_POOL = re.compile(r"(max|avg)_pool_(\d+x\d+)")
# Two convolutions, one along each axis: what they are called, and the square that they span.
_ROW_COLUMN: Final = {"conv_7x1_1x7": ("conv 7x1, 1x7", CONV_7X7), "conv_1x3_3x1": ("conv 1x3, 3x1", CONV_3X3)}
_SQUARES: Final = {"1x1": CONV_1X1, "3x3": CONV_3X3, "5x5": CONV_5X5}


def family_of(primitive: str) -> Family:
    """The family of ``primitive``; names unknown to this version are told like ``none``."""
    if primitive in _ROW_COLUMN:
        return _ROW_COLUMN[primitive][1]
    if _POOL.fullmatch(primitive):
        return POOL
    conv = _CONV.fullmatch(primitive)
    if conv and conv[1] == "dil":
        return DILATED
    if conv:
        return _SQUARES.get(conv[2], CONV_7X7)
    return SKIP if primitive == "skip_connect" else NONE


def label_of(primitive: str, space: str | None = None) -> str:
    """A short label for ``primitive``.

    ``sep_conv`` is a grouped convolution in the ``bats`` space and a separable one in the others, ``dil_conv`` a full
    one in ``nasnet``; without a space, ``sep_conv`` reads "sep conv" as in the published figures. An unknown name is
    returned as it is.
    """
    if primitive in _ROW_COLUMN:
        return _ROW_COLUMN[primitive][0]
    if primitive == "skip_connect":
        return "skip"
    if pool := _POOL.fullmatch(primitive):
        return f"{pool[1]} pool {pool[2]}"
    conv = _CONV.fullmatch(primitive)
    if conv is None:
        return primitive
    if conv[1] is None:
        return f"conv {conv[2]}"
    built = _CONVOLUTION.get(space or "")
    if conv[1] == "dil":
        return f"dil. {built or 'conv'} {conv[2]}"
    return f"{built or 'sep conv'} {conv[2]}"


def wrapped(label: str) -> str:
    """``label`` on two lines, as narrow as can be; the second one is the shorter where there is a choice."""
    words = label.split()
    lines = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(len(words) - 1, 0, -1)]
    return "\n".join(min(lines, key=lambda pair: max(map(len, pair)))) if lines else label


def kernel_of(primitive: str) -> int | None:
    """The longer side of a convolution's filter, before dilation; None for what is no convolution."""
    known = primitive in _ROW_COLUMN or _CONV.fullmatch(primitive)
    return max(map(int, re.findall(r"\d+", primitive))) if known else None


def cell_statistics(cell: Cell) -> dict[str, int]:
    """Count what a cell is made of.

    Every edge falls into one of ``conv_1x1``, ``conv_3x3``, ``conv_5x5``, ``conv_7x7`` (the undilated convolutions, the
    1x3-3x1 and 7x1-1x7 blocks among them), ``dilated``, ``pools`` and ``skips``, or is a ``none``. ``parameter_free``
    counts pools, skips and nones: a cell made of these alone is what a collapsed search returns. ``depth`` is
    :attr:`Cell.depth`.
    """

    def count(families: Iterable[Family]) -> int:
        return sum(family_of(edge.primitive) in families for edge in cell.edges)

    return {
        "depth": cell.depth,
        "conv_1x1": count([CONV_1X1]),
        "conv_3x3": count([CONV_3X3]),
        "conv_5x5": count([CONV_5X5]),
        "conv_7x7": count([CONV_7X7]),
        "dilated": count([DILATED]),
        "pools": count([POOL]),
        "skips": count([SKIP]),
        "parameter_free": count([POOL, SKIP, NONE]),
    }


def statistics_line(cell: Cell) -> str:
    """:func:`cell_statistics` as one line of text, without what does not occur."""
    counts = cell_statistics(cell)
    words = {
        "conv_1x1": "conv 1x1",
        "conv_3x3": "conv 3x3",
        "conv_5x5": "conv 5x5",
        "conv_7x7": "conv 7x7",
        "dilated": "dilated",
        "pools": "pool",
        "skips": "skip",
    }
    parts = [f"{counts[key]} {word}" for key, word in words.items() if counts[key]]
    nones = len(cell.edges) - sum(counts[key] for key in words)
    if nones:
        parts.append(f"{nones} none")
    return "   ·   ".join([f"depth {counts['depth']}", *parts])
