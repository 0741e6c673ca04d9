"""Time a training step: the quick network against the straightforward one, in images and FLOP per second.

    python benchmarks/training.py --out results/training

A step is forward, backward and the optimizer (AdamW for networks, alphas and weights of the first order for the
supernet), images on the device. The straightforward form of a network is ``binarch.nn.plain`` in PyTorch's default
memory format, that of a supernet the naive one, made straightforward too: float32, not compiled. Both are tested equal
to the quick form, which may have another ``precision`` and be compiled, and whose grouped convolutions take the form
that is quicker on a GPU.
Contenders take turns within each round and ratios are taken within rounds, so that a machine that changes its speed
changes it for all.

FLOP: two per multiply-accumulate, three passes of that size (outputs, gradients of inputs, gradients of filters).
Floor: that many at the rate of a large matrix product, plus the bytes of every map (written and read once forward, its
gradient too, and read once more for the gradients of what made it: five times) at the rate of a copy; both rates are
measured in the same run, in the number format of the quick form. Winograd's algorithm (float32, CPU) computes less than
is counted and may pass the floor.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import nn
from torch.nn import functional

from binarch.models import NetworkConfig, find_architecture
from binarch.models.costs import layer_macs
from binarch.nn import Binarization, GroupedProduct, QuantLayer, plain
from binarch.nn.plain import PlainConv2d
from binarch.runs import environment, write_atomic
from binarch.search import EdgeOperations, Supernet
from binarch.spaces import Bats
from binarch.training.config import Compile
from binarch.training.device import Device, Precision, make_fabric, suit_


@dataclass
class Benchmark:
    """What is trained, and how often."""

    out: Path | None = None
    rows: tuple[str, ...] = ("bats, activations", "bats, both", "vgg-small", "supernet")
    """bats: 20 cells of P-DARTS' topology in the BATS space; the two stages."""
    cells: int = 20
    channels: int = 36
    groups: int = 12
    width: int = 128
    """Channels of VGG-small's first stage."""
    search_cells: int = 8
    search_channels: int = 16
    search_groups: int = 4
    image_size: int = 32
    batch: int = 16
    rounds: int = 5
    threads: int = 2
    device: Device = "cpu"
    precision: Precision = "32"
    """That of the quick form."""
    compile: Compile = "no"
    """Whether the quick form is compiled, and how."""


@dataclass(frozen=True)
class Work:
    """What one step does per image; bytes in float32 unless told otherwise."""

    flop: float
    bytes: float


def network(row: str, settings: Benchmark) -> nn.Module:
    """The network of a row, quick form."""
    torch.manual_seed(0)
    kind, _, binarize = row.partition(", ")
    shape = NetworkConfig(
        cells=settings.cells, channels=settings.channels, groups=settings.groups, output_scale=True,
        width=settings.width if kind == "vgg-small" else 0,
    )  # fmt: skip
    arch = find_architecture("pdarts" if kind == "bats" else kind)
    return shape.build(arch, 10, binarize or "both", settings.image_size)  # type: ignore[arg-type]


def supernet(settings: Benchmark, *, fast: bool) -> Supernet:
    """The supernet of a search with binary activations."""
    torch.manual_seed(0)
    space = Bats(Binarization("activations"), settings.search_groups)
    operations = EdgeOperations.full(space.rules)
    return Supernet(
        space, {"normal": operations, "reduce": operations},
        channels=settings.search_channels, cells=settings.search_cells, classes=10, temperature=0.2, fast=fast,
    )  # fmt: skip


def work(made: nn.Module, image_size: int) -> Work:
    """Counted by formula (see the top)."""
    numbers = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal numbers
        numbers += output[0].numel()

    whole = [m for m in made.modules() if isinstance(m, QuantLayer | PlainConv2d)]
    inside = {part for module in whole for part in module.modules()}
    leaves = [m for m in made.modules() if not list(m.children()) and not isinstance(m, GroupedProduct)]
    makers = [*whole, *(leaf for leaf in leaves if leaf not in inside)]
    hooks = [module.register_forward_hook(count) for module in makers]
    macs = sum(layer_macs(made, image_size).values())
    for hook in hooks:
        hook.remove()
    return Work(6.0 * macs, 5 * 4.0 * numbers)


def finished(device: torch.device) -> float:
    """The time at which the device has nothing left to do, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def step(made: nn.Module, settings: Benchmark, *, quick: bool) -> Callable[[], float]:
    """A function that takes one step and returns its milliseconds per image."""
    layout = torch.channels_last if quick else torch.contiguous_format
    fabric = make_fabric(settings.device, settings.precision if quick else "32")
    device = fabric.device
    made.to(device, memory_format=layout)  # type: ignore[call-overload]
    side = settings.image_size
    images = torch.randn(settings.batch, 3, side, side, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (settings.batch,), device=device)
    searching = isinstance(made, Supernet)
    halves = (made.architecture_parameters(), made.weight_parameters()) if searching else (list(made.parameters()),)
    if quick:
        suit_(made, fabric, images)
    compiled = torch.compile(made, dynamic=False, mode=settings.compile) if quick and settings.compile != "no" else made
    learner, *optimizers = fabric.setup(compiled, *(torch.optim.AdamW(part, fused=True) for part in halves))

    def take() -> float:
        started = finished(device)
        for what, optimizer in zip(("alphas", "weights"), optimizers, strict=False):
            if isinstance(made, Supernet):
                made.learn(what)
            optimizer.zero_grad()
            fabric.backward(functional.cross_entropy(learner(images), labels))
            optimizer.step()
        return (finished(device) - started) / settings.batch * 1e3

    return take


def limits(settings: Benchmark) -> tuple[float, float, int]:
    """FLOP per second of a large product, bytes per second of a copy, the best of five; bytes of a number.

    All in the number format of the quick form.
    """
    fabric = make_fabric(settings.device, settings.precision)
    device = fabric.device
    side = 1536 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device)
    with fabric.autocast():
        dtype = (a @ b).dtype
    a, b = a.to(dtype), b.to(dtype)
    source = torch.randn(1 << (25 if device.type == "cpu" else 28), device=device)
    target = torch.empty_like(source)

    def best(act: Callable[[], object]) -> float:
        def timed() -> float:
            started = finished(device)
            act()
            return finished(device) - started

        return min(timed() for _ in range(5))

    copied = 2 * source.element_size() * source.numel()
    return 2 * side**3 / best(lambda: a @ b), copied / best(lambda: target.copy_(source)), dtype.itemsize


def main(settings: Benchmark) -> None:
    """Measure, print a table, and write it with ``--out``."""
    torch.set_num_threads(settings.threads)
    flops, bandwidth, size = limits(settings)
    lines = [
        "| step | quick, images/s | straightforward | ratio (least - most) | GFLOP/s | floor, images/s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    record = {}
    for row in settings.rows:
        if row == "supernet":
            quick: nn.Module = supernet(settings, fast=True)
            naive = supernet(settings, fast=False)
            counted = work(naive, settings.image_size)
            slow = plain(naive)
            counted = Work(2 * counted.flop, 2 * counted.bytes)  # alphas, then weights
        else:
            quick = network(row, settings)
            slow = plain(quick)
            counted = work(quick, settings.image_size)
        counted = Work(counted.flop, counted.bytes * size / 4)
        steps = step(quick, settings, quick=True), step(slow, settings, quick=False)
        for take in steps:
            take()
        times = [[take() for take in steps] for _ in range(settings.rounds)]
        one, two = (statistics.median(column) for column in zip(*times, strict=True))
        ratios = [b / a for a, b in times]
        floor = 1 / (counted.flop / flops + counted.bytes / bandwidth)
        lines.append(
            f"| {row} | {1e3 / one:.1f} | {1e3 / two:.1f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} - {max(ratios):.2f}) | {counted.flop / one / 1e6:.0f} | {floor:.0f} |"
        )
        record[row] = {"ms_per_image": times, "flop": counted.flop, "bytes": counted.bytes, "floor": floor}
        print(lines[-1], flush=True)
    env = environment()
    head = (
        f"{settings.cells} cells, {settings.channels} channels, {settings.groups} groups; VGG-small of width "
        f"{settings.width}; supernet of {settings.search_cells} cells, {settings.search_channels} channels, "
        f"{settings.search_groups} groups; {settings.image_size} pixels, batches of {settings.batch}, "
        f"{settings.rounds} rounds, {settings.threads} threads; quick form: precision {settings.precision}, "
        f"torch.compile {settings.compile}; {env['gpu'] or env['cpu']}, {env['cpu_capability']}, torch "
        f"{env['torch']}, {env['date'][:10]}. A large matrix product: {flops / 1e9:.0f} GFLOP/s; a copy: "
        f"{bandwidth / 1e9:.1f} GB/s."
    )
    page = "\n".join(["# A training step", "", head, "", *lines, ""])
    print(page)
    if settings.out is not None:
        settings.out.mkdir(parents=True, exist_ok=True)
        write_atomic(settings.out / "README.md", page)
        raw = {"steps": record, "product_flops": flops, "copy_bytes": bandwidth, "env": env}
        write_atomic(settings.out / "times.json", json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
