"""A network layer by layer: bits, weights, work, and the bytes of the packed file."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, final

from rich.table import Table
from torch import nn

from binarch.deploy.lower import build
from binarch.errors import UserError
from binarch.models import code_bytes, layer_macs
from binarch.nn import QuantLayer, evaluating
from binarch.runtime.ops import to_plain


@final
@dataclass(frozen=True)
class LayerRow:
    """One module. Bits are 32 for real numbers; 0 where there are no weights."""

    name: str
    kind: str
    input_bits: int
    weight_bits: int
    weights: int
    """How many numbers of ``weight_bits`` the filters have."""
    others: int
    """Learned real numbers besides them: scales, biases, norms."""
    binary_macs: int
    """Multiply-accumulates with one bit on both sides."""
    mixed_macs: int
    """Those with codes on one side, or on both with more than one bit."""
    float_macs: int
    """Those of real numbers."""
    bytes: int
    """In the packed file: numbers, codes and instructions."""


@final
@dataclass(frozen=True)
class Layers:
    """All modules that hold numbers or become instructions."""

    rows: tuple[LayerRow, ...]
    header_bytes: int
    """Of the packed file, beside the layers."""
    reason: str = ""
    """Why the network cannot be packed; empty where it can."""

    @property
    def packable(self) -> bool:
        """Whether ``bytes`` were taken from a packed program; otherwise they are estimated, without instructions."""
        return not self.reason

    @property
    def total_bytes(self) -> int:
        """Those of the packed file."""
        return self.header_bytes + sum(row.bytes for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return {
            "layers": [asdict(row) for row in self.rows],
            "header_bytes": self.header_bytes,
            "total_bytes": self.total_bytes,
            "packable": self.packable,
            "reason": self.reason,
        }


def summarise(network: nn.Module, image_size: int) -> Layers:
    """Look at ``network`` as it works on 3 x S x S images, in evaluation mode.

    Bytes are those of the program that it packs into; where it cannot be packed they are estimated: codes, one factor
    per filter, and four bytes for all other numbers.
    """
    with evaluating(network):
        return _summarise(network, image_size)


def _summarise(network: nn.Module, image_size: int) -> Layers:
    macs = layer_macs(network, image_size)
    reason = ""
    taken: dict[nn.Module, int] | None = None
    file = 0
    try:
        taken, file = _packed_bytes(network, image_size)
    except UserError as error:
        reason = str(error)
    rows = [
        _row(name, module, macs.get(module, 0), None if taken is None else taken.get(module, 0))  # type: ignore[call-overload]
        for name, module in _parts(network)
        if next(module.parameters(), None) is not None or (taken and module in taken)
    ]
    header = 0 if taken is None else file - sum(row.bytes for row in rows)
    return Layers(tuple(rows), header, reason)


def _parts(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules without children, and quantized layers as a whole; no auxiliary head, which works in training only."""
    if isinstance(network, QuantLayer) or not next(network.children(), None):
        yield name, network
        return
    for child, module in network.named_children():
        if name or child != "auxiliary":
            yield from _parts(module, f"{name}.{child}" if name else child)


def _packed_bytes(network: nn.Module, image_size: int) -> tuple[dict[nn.Module, int], int]:
    """Bytes of the packed file per module that appended instructions, and of the whole file."""
    builder = build(network, size=(image_size, image_size), mean=(0.5,) * 3, std=(0.25,) * 3)
    classes = [str(number) for number in range(builder.shapes[-1].channels)]
    program, owners = builder.program({"classes": classes}), [builder.owners[index] for index in builder.kept()]
    taken: dict[nn.Module, int] = {}
    counted: set[tuple[str, int]] = set()
    for index, (op, owner) in enumerate(zip(program.ops, owners, strict=True)):
        if isinstance(owner, nn.Module):
            inputs = program.inputs(index)
            runs = {("reals", getattr(op, field)): 4 * n for field, n in op.reals(inputs).items()}
            runs |= {("bits", getattr(op, field)): n for field, n in op.bits(inputs).items()}
            numbers = sum(n for run, n in runs.items() if run not in counted)  # several instructions may share a run
            counted |= runs.keys()
            text = len(json.dumps(to_plain(op), separators=(",", ":")).replace('"', '\\"')) + 1
            taken[owner] = taken.get(owner, 0) + numbers + text
    return taken, len(program.encode())


def _row(name: str, module: nn.Module, macs: int, packed: int | None) -> LayerRow:
    numbers = sum(p.numel() for p in module.parameters())
    kind = type(module).__name__
    if isinstance(module, QuantLayer):
        bits = module.activation_quantizer.bits, module.weight_quantizer.bits
        weights, others = prod(module.filter_shape), numbers - module.weight.numel()
        estimate = 4 * numbers if bits[1] == 32 else code_bytes(module) + 4 * others
        work = (macs, 0, 0) if bits == (1, 1) else (0, 0, macs) if bits == (32, 32) else (0, macs, 0)
    else:
        held = isinstance(module, nn.Conv2d | nn.Linear)
        bits = (32, 32 if held else 0)
        weights = module.weight.numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
        others, estimate, work = numbers - weights, 4 * numbers, (0, 0, macs)
    return LayerRow(name, kind, *bits, weights, others, *work, estimate if packed is None else packed)


def tell_layers(layers: Layers) -> Table:
    """The rows and their sums, aligned."""
    table = Table(box=None, pad_edge=False, show_footer=True)
    sizes = {bits: sum(row.weights for row in layers.rows if row.weight_bits == bits) for bits in (1, 2, 32)}
    table.add_column("layer", footer="total", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for title, footer in (
        ("in", ""),
        ("1-bit", sizes[1]),
        ("2-bit", sizes[2]),
        ("32-bit", sizes[32] + sum(row.others for row in layers.rows)),
        ("1-bit MACs", sum(row.binary_macs for row in layers.rows)),
        ("mixed MACs", sum(row.mixed_macs for row in layers.rows)),
        ("float MACs", sum(row.float_macs for row in layers.rows)),
        ("bytes", layers.total_bytes),
    ):
        table.add_column(title, justify="right", no_wrap=True, footer=f"{footer:,}" if footer != "" else "")
    for row in layers.rows:
        coded = {bits: row.weights if row.weight_bits == bits else 0 for bits in (1, 2, 32)}
        numbers = (coded[1], coded[2], coded[32] + row.others, row.binary_macs, row.mixed_macs, row.float_macs)
        cells = [f"{number:,}" if number else "" for number in (*numbers, row.bytes)]
        table.add_row(row.name, row.kind, str(row.input_bits) if row.weight_bits else "", *cells)
    if not layers.packable:
        table.caption = f"Bytes are estimated: {layers.reason}"
    table.add_row("file header and card" if layers.packable else "", "", "", *[""] * 6, f"{layers.header_bytes:,}")
    return table
