"""Measure packed networks against other engines and write benchmarks/runtime.md.

    pip install -e '.[bench]' && python benchmarks/runtime.py

Three things are timed, on noise and with random weights: a cell network of the BATS space and VGG-small against every
engine that is installed (one image, one thread); one dense binary convolution against the popcount limit of the
machine; batches with one thread and with two. Contenders take turns within one process and ratios are taken within a
round, because a shared machine changes its pace. What stands in runtime.md below "## Where the time goes" is written by
hand and kept.
"""

import json
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from binarch.deploy import ENGINES, Bench, Builder, ColdStart, bench, cold_start, random_program
from binarch.deploy.engines import Run
from binarch.deploy.floats import random_images
from binarch.deploy.limit import PopcountLimit
from binarch.models import NetworkConfig
from binarch.runtime import Network, Program
from binarch.runtime.ops import Add, BitConv, Image, Mean, Quantize, Window

HAND_WRITTEN = "## Where the time goes"


@dataclass
class Benchmark:
    """Shape of the networks and of the measurement."""

    out: Path = Path("benchmarks/runtime.md")
    arch: str = "pdarts"
    cells: int = 20
    channels: int = 36
    groups: int = 12
    image_size: int = 32
    width: int = 256
    """Channels of the single convolution."""
    side: int = 14
    """Pixels along its map's side."""
    layers: int = 8
    """How many of them are timed."""
    batch: int = 64
    seconds: float = 120.0
    """For each network."""
    against: tuple[str, ...] = tuple(name for name in ENGINES if name != "binarch")


def convolutions(width: int, side: int, layers: int, *, quantized: bool) -> Program:
    """``layers`` binary 3 x 3 convolutions, each of the one before (``quantized``), or all of the same signs, added up.

    The time of one is a difference: that of many layers less that of few. Pictures, means and calls cancel out.
    """
    rng = np.random.default_rng(0)
    builder = Builder()
    mean, std, scale = (builder.reals(np.full(width, value)) for value in (0.5, 0.25, 1 / width))
    x = builder.add(Image(width, side, side, mean, std))
    window = Window((3, 3), (1, 1), (1, 1), (-1, -1), (side, side))

    def signs(of: int) -> int:
        return builder.add(Quantize(of, 2, builder.reals(rng.normal(0, 0.1, width)), -1))

    def layer(codes: int) -> int:
        bits = builder.bits(rng.integers(0, 2, width * width * 9))
        return builder.add(BitConv(codes, window, width, 1, bits, (-1, 1), (-1, 1), scale))

    codes = signs(x)
    x = layer(codes)
    for _ in range(layers - 1):
        x = layer(signs(x)) if quantized else builder.add(Add(x, layer(codes)))
    builder.add(Mean(x))
    return builder.program({"classes": [str(number) for number in range(width)]})


def alternate(runs: dict[str, Run], images: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Seconds of the quickest of three runs of each, by round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            marks = [time.perf_counter()]
            for _ in range(4):
                run(images)
                marks.append(time.perf_counter())
            times[name].append(min(later - earlier for earlier, later in pairwise(marks[1:])))
    return times


def single_layer(settings: Benchmark, rounds: int = 40) -> dict[str, Any]:
    """Binary MACs/s of one convolution with and without the comparison that makes its signs, beside the limit."""
    width, side, layers = settings.width, settings.side, settings.layers
    runs = {}
    for kind in (False, True):
        for count in (1, 1 + layers):
            network = Network(convolutions(width, side, count, quantized=kind))
            network.warmup()
            runs[f"{kind} {count}"] = lambda images, network=network: network.run(images.transpose(0, 2, 3, 1))
    images = random_images(network.program, 1)
    limit = PopcountLimit(threads=1)
    macs = width * width * 9 * side * side
    found: dict[str, list[float]] = {"limit": [], "alone": [], "with_signs": []}
    for _ in range(rounds):
        times = alternate(runs, images, 1)
        found["limit"].append(max(limit.measure().values()))
        for kind, name in ((False, "alone"), (True, "with_signs")):
            seconds = (times[f"{kind} {1 + layers}"][0] - times[f"{kind} 1"][0]) / layers
            found[name].append(macs / max(seconds, 1e-9))
    shares = {
        name: [rate / most for rate, most in zip(found[name], found["limit"], strict=True)]
        for name in ("alone", "with_signs")
    }
    return {
        "macs": macs,
        **{f"{name}_macs_per_s": statistics.median(rates) for name, rates in found.items()},
        **{f"{name}_share": statistics.median(share) for name, share in shares.items()},
        **{f"{name}_share_quartiles": _quartiles(share) for name, share in shares.items()},
    }


def two_threads(program: Program, batch: int, rounds: int = 15) -> dict[str, Any]:
    """Images per second with one thread and with two, and the ratio within each round."""
    runs = {str(threads): ENGINES["binarch"].prepare(program, threads, batch) for threads in (1, 2)}
    times = alternate(runs, random_images(program, batch), rounds)
    ratios = [one / two for one, two in zip(times["1"], times["2"], strict=True)]
    return {
        "images_per_s": {name: batch / statistics.median(seconds) for name, seconds in times.items()},
        "gain": statistics.median(ratios),
        "gain_quartiles": _quartiles(ratios),
    }


def _quartiles(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.25, 0.75))
    return float(low), float(high)


def engines_table(networks: dict[str, Bench]) -> list[str]:
    """A row per engine, a column per network."""
    lines = [f"| engine | {' | '.join(networks)} |", "|---" * (1 + len(networks)) + "|"]
    for name in ENGINES:
        cells = []
        for found in networks.values():
            row = next((row for row in found.results if row.engine == name), None)
            reason = next((entry["reason"] for entry in found.skipped if entry["engine"] == name), "not asked for")
            if row is None:
                cells.append(f"- ({reason})")
                continue
            (low, high), (least, most) = row.quartiles_ms, row.times_binarch_range
            ratio = "" if name == "binarch" else f"; **{row.times_binarch:.1f}** ({least:.1f} to {most:.1f})"
            cells.append(f"{row.median_ms:.2f} ms ({low:.2f} to {high:.2f}){ratio}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def goals(networks: dict[str, Bench], layer: dict[str, Any], threads: dict[str, Any]) -> list[str]:
    """What was to be reached, and what was."""
    rows: list[tuple[str, float, float]] = []
    cell, vgg = networks.values()
    ratios = [{row.engine: row.times_binarch for row in found.results} for found in (cell, vgg)]
    peers = {name: ratio for name, ratio in ratios[0].items() if name != "binarch"}
    if peers:
        best = min(peers, key=lambda name: peers[name])
        rows.append((f"cell network: times quicker than the best peer ({best})", peers[best], 10))
    for title, ratio, peer, goal in (
        ("cell network: times quicker than torch", ratios[0], "torch", 25),
        ("VGG-small: times quicker than openvino-int8", ratios[1], "openvino-int8", 3),
        ("VGG-small: times quicker than torch", ratios[1], "torch", 15),
    ):
        if peer in ratio:
            rows.append((title, ratio[peer], goal))
    rows.append(("dense convolution: share of the popcount limit", layer["alone_share"], 0.70))
    rows.append(("the same with its inputs' signs", layer["with_signs_share"], 0.55))
    rows += [(f"{name}: two threads over one", found["gain"], 1.7) for name, found in threads.items()]
    lines = ["| goal | at least | reached | |", "|---|---|---|---|"]
    for title, found, goal in rows:
        verdict = "yes" if found >= goal else f"missed by {1 - found / goal:.0%}"
        lines.append(f"| {title} | {goal:g} | {found:.2f} | {verdict} |")
    return lines


def page(
    networks: dict[str, Bench], layer: dict[str, Any], threads: dict[str, Any], cold: dict[str, ColdStart],
    ideal: dict[str, int], settings: Benchmark,
) -> str:  # fmt: skip
    """The whole page, without what is written by hand."""
    machine = next(iter(networks.values())).machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# The packed runtime against other engines", "",
        f"{machine['cpu']}, {machine['cores']} cores, instruction set in use: {machine['instruction_set']}; "
        f"Python {machine['python']}, {versions}; {machine['date']}, {machine['git']}.",
        "Written by `benchmarks/runtime.py`, which tells how it was measured. Random weights, one image, one thread; "
        "median (quartiles) of all runs; bold: times binarch's time, the median (smallest to largest) over the rounds.",
        "", *engines_table(networks), "",
        "The peers run the float graph with +-1 weights; those called int8 after their own static quantization.", "",
        *goals(networks, layer, threads), "",
        f"**One dense 3x3 convolution**, {settings.width} to {settings.width} channels at "
        f"{settings.side}x{settings.side} ({layer['macs'] / 1e6:.0f} M binary MACs): "
        f"{layer['alone_macs_per_s'] / 1e12:.3f} T binary MACs/s, "
        f"{layer['alone_share']:.0%} of this machine's popcount limit ({layer['limit_macs_per_s'] / 1e12:.3f} T/s); "
        f"with the comparison that makes the signs of its inputs {layer['with_signs_macs_per_s'] / 1e12:.3f} T, "
        f"{layer['with_signs_share']:.0%}.", "",
        f"| network | images/s, one thread, batch {settings.batch} | two threads | gain (quartiles) |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for name, found in threads.items():
        one, two = found["images_per_s"].values()
        low, high = found["gain_quartiles"]
        lines.append(f"| {name} | {one:,.0f} | {two:,.0f} | {found['gain']:.2f} ({low:.2f} to {high:.2f}) |")
    lines += ["", "| network | packed, bytes | of the ideal | float32 | binary MACs | pace, T/s | of the limit |"]
    lines += ["|---" * 7 + "|"]
    for name, result in networks.items():
        lines.append(
            f"| {name} | {result.file_bytes:,} | {result.file_bytes / ideal[name]:.2f} | {result.float_bytes:,} | "
            f"{result.binary_macs:,} | {result.binary_macs_per_s / 1e12:.3f} | {result.share_of_limit:.0%} |"
        )
    lines += ["", "Ideal: one bit per binary weight and four bytes per other parameter.", ""]
    for name, start in cold.items():
        lines.append(
            f"{name}, cold: import {start.import_s:.2f} s, load {start.load_s:.2f} s, first image "
            f"{start.first_run_s:.2f} s; with nothing compiled {start.first_run_empty_cache_s:.0f} s.\n"
        )
    return "\n".join(lines)


def main(settings: Benchmark) -> None:
    """Measure, print the page and write it."""
    config = NetworkConfig(cells=settings.cells, channels=settings.channels, groups=settings.groups)
    shape = {"classes": 10, "image_size": settings.image_size}
    cell = f"{settings.arch}, {settings.cells} cells, C={settings.channels}, {settings.groups} groups"
    programs = {
        cell: random_program(settings.arch, config, **shape),
        "VGG-small": random_program("vgg-small", NetworkConfig(), **shape),
    }
    networks = {
        name: bench(program, settings.against, seconds=settings.seconds, say=print)
        for name, program in programs.items()
    }
    layer = single_layer(settings)
    threads = {name: two_threads(program, settings.batch) for name, program in programs.items()}
    cold = {name: cold_start(program) for name, program in programs.items()}
    ideal = {name: program.card["costs"]["bytes_packed"] for name, program in programs.items()}
    text = page(networks, layer, threads, cold, ideal, settings)
    print(text)
    before = settings.out.read_text() if settings.out.is_file() else ""
    kept = before[before.index(HAND_WRITTEN) :] if HAND_WRITTEN in before else f"{HAND_WRITTEN}\n"
    settings.out.write_text(f"{text}\n{kept}")
    raw = {
        "networks": {name: found.to_dict() for name, found in networks.items()},
        "convolution": layer,
        "threads": threads,
        "cold": {name: found.to_dict() for name, found in cold.items()},
    }
    settings.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
