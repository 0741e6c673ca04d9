"""Tables and table numbers of a binary convolution: what the kernels look up instead of multiplying."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from binarch.runtime.layout import code_bits
from binarch.runtime.ops import BitConv


@final
@dataclass(frozen=True)
class Tables:
    """Sixteen-entry tables, one for each way that the weights of a quad can be; the last quad may hold less."""

    entries: np.ndarray
    """int8 (tables, 16), divided by ``factor``."""
    factor: int
    """2 where all entries are even, as with signs and full quads: then twice as many add up in 8 bits."""
    starts: dict[int, int]
    """The first table, by the number of channels that a quad holds."""

    @property
    def chunk(self) -> int:
        """How many entries add up safely in 8 bits."""
        return max(1, 127 // max(1, int(np.abs(self.entries.astype(np.int64)).max())))


def build_tables(op: BitConv, per_quad: int, inside: int) -> Tables:
    """The tables for ``inside`` channels per group in quads of ``per_quad``.

    Entry n of the table for weights w is the sum over i of w_i * values[code i of nibble n]; codes that do not occur
    add nothing.
    """
    entries: list[list[int]] = []
    starts = {}
    for held in sorted({min(per_quad, inside), inside % per_quad or min(per_quad, inside)}):
        starts[held] = len(entries)
        for number in range(1 << op.weight_bits * held):
            weights = [op.weight_values[number >> op.weight_bits * i & (1 << op.weight_bits) - 1] for i in range(held)]
            entries.append([_entry(nibble, weights, op.values) for nibble in range(16)])
    table = np.array(entries, np.int64)
    factor = 1 if (table % 2).any() else 2
    return Tables((table // factor).astype(np.int8), factor, starts)


def _entry(nibble: int, weights: Sequence[int], values: tuple[int, ...]) -> int:
    bits = code_bits(len(values))
    total = 0
    for i, weight in enumerate(weights):
        code = nibble >> bits * i & (1 << bits) - 1
        total += weight * values[code] if code < len(values) else 0
    return total


def table_numbers(op: BitConv, codes: np.ndarray, per_quad: int, tables: Tables) -> np.ndarray:
    """Twice the number of the table that each (out, tap, quad) looks up, for weights' codes (out, inside, taps)."""
    taps = codes.swapaxes(1, 2)
    columns = []
    for first in range(0, taps.shape[2], per_quad):
        held = taps[:, :, first : first + per_quad]
        columns.append(held @ (1 << op.weight_bits * np.arange(held.shape[2])) + tables.starts[held.shape[2]])
    return (2 * np.stack(columns, 2)).astype(np.uint8)
