"""Packed network against other engines, taking turns in one process: a machine that changes its pace changes all."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

import numpy as np
import torch

from binarch.deploy.engines import ENGINES, Run
from binarch.deploy.floats import random_images, weights_of
from binarch.deploy.limit import PopcountLimit
from binarch.deploy.onnx import relative_difference
from binarch.errors import UserError, choose
from binarch.runs import environment
from binarch.runtime import Network
from binarch.runtime.lookup import instruction_set
from binarch.runtime.ops import BitConv
from binarch.runtime.program import Program

#: Seconds that a contender runs per round, at least; one run at least.
TURN = 0.05
#: Fewest and most rounds.
ROUNDS = (5, 40)


@final
@dataclass(frozen=True)
class Timing:
    """One engine's runs of one batch, after warming up."""

    engine: str
    median_ms: float
    min_ms: float
    quartiles_ms: tuple[float, float]
    """A quarter of the runs is quicker than the first, a quarter slower than the second."""
    ms_per_image: float
    """The median over the batch."""
    runs: int
    times_binarch: float
    """How many times slower than binarch: the median over the rounds, each compared within itself."""
    times_binarch_range: tuple[float, float]
    """Smallest and largest of the rounds."""
    difference: float
    """Largest difference of logits from binarch's, relative to the largest logit."""


@final
@dataclass(frozen=True)
class Bench:
    """What :func:`bench` found."""

    results: list[Timing]
    skipped: list[dict[str, str]]
    """``engine`` and ``reason``."""
    threads: int
    batch: int
    rounds: int
    binary_macs: int
    """Binary multiply-accumulates per image."""
    binary_macs_per_s: float
    popcount_limit: float
    """Binary multiply-accumulates per second of xor + popcount + addition in registers, measured in the same rounds."""
    share_of_limit: float
    file_bytes: int
    float_bytes: int
    """Four bytes for each weight and other trained number."""
    machine: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)


def bench(
    program: Program,
    engines: Sequence[str] = tuple(ENGINES),
    *,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 20.0,
    say: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Prepare ``engines`` and binarch, warm them up, and let them take turns for about ``seconds``.

    In a round each contender runs once unmeasured (others have emptied the caches) and then for ``TURN`` seconds; the
    popcount limit is measured once per round too. What is not installed, or fails on this network, is skipped.
    """
    for name, value in (("threads", threads), ("batch", batch)):
        if value < 1:
            raise UserError(f"{name}: {value} is not possible; use 1 or more")
    for name in engines:
        choose("--against", name, ENGINES)
    before = torch.get_num_threads()
    try:
        return _bench(program, engines, threads, batch, seconds, say)
    finally:
        torch.set_num_threads(before)


def _bench(
    program: Program, engines: Sequence[str], threads: int, batch: int, seconds: float, say: Callable[[str], None]
) -> Bench:
    images = random_images(program, batch)
    Network(program, threads).warmup(say)
    contenders, skipped = _prepare(program, ["binarch", *engines], threads, batch, say)
    logits = {name: run(images) for name, run in contenders.items()}
    times, limits = _rounds(contenders, images, PopcountLimit(threads), seconds)
    medians = {name: [statistics.median(turn) for turn in turns] for name, turns in times.items()}
    results = [
        _timing(name, turns, medians, batch, relative_difference(logits[name], logits["binarch"]))
        for name, turns in times.items()
    ]
    macs = binary_macs(program)
    rate = macs * batch / results[0].median_ms * 1e3
    limit = max(statistics.median(found[width] for found in limits) for width in limits[0])
    return Bench(
        results=results,
        skipped=skipped,
        threads=threads,
        batch=batch,
        rounds=len(limits),
        binary_macs=macs,
        binary_macs_per_s=rate,
        popcount_limit=limit,
        share_of_limit=rate / limit,
        file_bytes=len(program.encode()),
        float_bytes=4 * weights_of(program),
        machine=machine(),
    )


def _timing(
    name: str, turns: list[list[float]], medians: dict[str, list[float]], batch: int, difference: float
) -> Timing:
    runs = np.array([run for turn in turns for run in turn]) * 1e3
    low, middle, high = (float(q) for q in np.quantile(runs, (0.25, 0.5, 0.75)))
    ratios = [theirs / ours for theirs, ours in zip(medians[name], medians["binarch"], strict=True)]
    return Timing(
        engine=name,
        median_ms=middle,
        min_ms=float(runs.min()),
        quartiles_ms=(low, high),
        ms_per_image=middle / batch,
        runs=len(runs),
        times_binarch=statistics.median(ratios),
        times_binarch_range=(min(ratios), max(ratios)),
        difference=difference,
    )


def _prepare(
    program: Program, engines: Sequence[str], threads: int, batch: int, say: Callable[[str], None]
) -> tuple[dict[str, Run], list[dict[str, str]]]:
    contenders: dict[str, Run] = {}
    skipped = []
    for name in dict.fromkeys(engines):
        if name == "torch-compile":
            say("torch-compile: compiling; this may take minutes ...")
        try:
            run = ENGINES[name].prepare(program, threads, batch)
            run(random_images(program, batch))
            contenders[name] = run
        except Exception as error:  # peers fail in many ways; none of them should end the comparison
            if name == "binarch":
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            skipped.append({"engine": name, "reason": reason})
    return contenders, skipped


def _rounds(
    contenders: dict[str, Run], images: np.ndarray, limit: PopcountLimit, seconds: float
) -> tuple[dict[str, list[list[float]]], list[dict[int, float]]]:
    """Seconds by engine, round and run; and the popcount limits of each round."""
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    limits: list[dict[int, float]] = []
    stop = time.perf_counter() + seconds
    while len(limits) < ROUNDS[0] or (len(limits) < ROUNDS[1] and time.perf_counter() < stop):
        for name, run in contenders.items():
            times[name].append(_turn(run, images))
        limits.append(limit.measure())
    return times, limits


def _turn(run: Run, images: np.ndarray) -> list[float]:
    """Seconds of each run; the first one counts only if it alone fills the turn."""
    found: list[float] = []
    begun = time.perf_counter()
    while True:
        started = time.perf_counter()
        run(images)
        ended = time.perf_counter()
        found.append(ended - started)
        if ended - begun >= TURN:
            return found[1:] or found


def binary_macs(program: Program) -> int:
    """Multiply-accumulates per image whose both sides are codes of few bits."""
    return sum(op.work(program.inputs(i)) for i, op in enumerate(program.ops) if isinstance(op, BitConv))


def machine() -> dict[str, Any]:
    """Where it was measured, and with which versions."""
    env = environment()
    versions = {}
    for name in ("binarch", "numba", "numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": env["cpu"],
        "cores": os.cpu_count(),
        "instruction_set": instruction_set(),
        "platform": env["platform"],
        "python": env["python"],
        "date": env["date"],
        "git": env["git"],
        "versions": versions,
    }
