"""Time one first-order search step of a supernet: the fast cells against the naive ones, BATS against DARTS.

    python benchmarks/supernet.py --out results/supernet

A step is what a search does with one pair of batches: forward and backward for the alphas, forward and backward for the
weights (optimizers left out). Every contender runs in both memory formats; rounds are interleaved, so that a machine
that changes its speed changes it for all; ratios are taken within a round. The naive DARTS supernet stands in for the
public DARTS code: default memory format, all gradients computed in both halves of the step.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch.nn import functional

from binarch.nn import Binarization
from binarch.runs import environment
from binarch.search import EdgeOperations, Supernet
from binarch.spaces import Bats, Darts, Space

FORMATS = {"default": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass
class Benchmark:
    """Shape of the supernet and of the measurement."""

    out: Path | None = None
    cells: int = 8
    channels: int = 16
    groups: int = 4
    image_size: int = 32
    batch: int = 16
    rounds: int = 7
    threads: int = 2


def stepper(space: Space, fast: bool, layout: str, settings: Benchmark) -> Callable[[], float]:
    """A function that runs one step and returns its milliseconds per image."""
    torch.manual_seed(0)
    operations = EdgeOperations.full(space.rules)
    supernet = Supernet(
        space, {"normal": operations, "reduce": operations},
        channels=settings.channels, cells=settings.cells, classes=10, temperature=0.2, fast=fast,
    )  # fmt: skip
    supernet.to(memory_format=FORMATS[layout])
    side = settings.image_size
    images = torch.randn(settings.batch, 3, side, side).contiguous(memory_format=FORMATS[layout])
    labels = torch.randint(0, 10, (settings.batch,))

    def step() -> float:
        started = time.perf_counter()
        for what in ("alphas", "weights"):
            if fast:
                supernet.learn(what)
            supernet.zero_grad()
            functional.cross_entropy(supernet(images), labels).backward()
        return (time.perf_counter() - started) / settings.batch * 1e3

    return step


def main(settings: Benchmark) -> None:
    """Measure, print a table, and write it with ``--out``."""
    torch.set_num_threads(settings.threads)
    spaces = {"bats": Bats(Binarization("activations"), settings.groups), "darts": Darts(Binarization("none"))}
    contenders = {
        (name, form, layout): stepper(space, form == "fast", layout, settings)
        for name, space in spaces.items()
        for form in ("naive", "fast")
        for layout in FORMATS
    }
    for step in contenders.values():
        step()
    times: dict[tuple[str, str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(settings.rounds):
        for key, step in contenders.items():
            times[key].append(step())
    medians = {key: statistics.median(values) for key, values in times.items()}

    def best(name: str, form: str) -> tuple[str, str, str]:
        return min((key for key in medians if key[:2] == (name, form)), key=lambda key: medians[key])

    lines = ["| space | supernet | memory format | ms per image, median (fastest - slowest) |", "|---|---|---|---|"]
    for key, values in times.items():
        span = f"{medians[key]:.1f} ({min(values):.1f} - {max(values):.1f})"
        lines.append(f"| {' | '.join(key)} | {span} |")
    ratios = {
        "BATS: naive / fast, each in its better format": (best("bats", "naive"), best("bats", "fast")),
        "DARTS: naive / fast, each in its better format": (best("darts", "naive"), best("darts", "fast")),
        "naive DARTS in the default format / fast BATS": (("darts", "naive", "default"), best("bats", "fast")),
        "naive DARTS in its better format / fast BATS": (best("darts", "naive"), best("bats", "fast")),
    }
    lines += ["", "| ratio | median (smallest - largest over the rounds) |", "|---|---|"]
    for text, (slow, quick) in ratios.items():
        each = [a / b for a, b in zip(times[slow], times[quick], strict=True)]
        lines.append(f"| {text} | {statistics.median(each):.2f} ({min(each):.2f} - {max(each):.2f}) |")
    env = environment()
    head = (
        f"# One search step\n\n{settings.cells} cells, {settings.channels} channels, {settings.groups} groups, "
        f"{settings.image_size}x{settings.image_size}, batch {settings.batch}, {settings.rounds} rounds; "
        f"{env['cpu']} ({env['cpu_capability']}), {settings.threads} threads, torch {env['torch']}, {env['date']}.\n"
        "Written by `benchmarks/supernet.py`; what is compared is told there.\n\n"
    )
    page = head + "\n".join(lines) + "\n"
    print(page)
    if settings.out is not None:
        settings.out.mkdir(parents=True, exist_ok=True)
        (settings.out / "README.md").write_text(page)
        raw = {" ".join(key): [round(value, 2) for value in values] for key, values in times.items()}
        (settings.out / "times.json").write_text(json.dumps({"ms_per_image": raw, "env": env}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
