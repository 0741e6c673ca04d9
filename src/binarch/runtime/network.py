"""A packed network, ready to run."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from binarch.errors import UserError
from binarch.runtime import kernels
from binarch.runtime.plan import Plan, Planner
from binarch.runtime.program import Program


@final
class Network:
    """Runs a :class:`Program`: plain arrays in, plain arrays out; safe to call from several threads at once.

    ``threads`` images of a batch are computed side by side.
    """

    def __init__(self, program: Program, threads: int = 1) -> None:
        if threads < 1:
            raise UserError(f"threads: {threads} is not possible; use 1 or more")
        self.program = program
        self.threads = threads
        self._plan = Planner(program).plan()
        self._idle: list[tuple[np.ndarray, ...]] = []
        self._lock = threading.Lock()

    @property
    def classes(self) -> list[str]:
        """Names of the logits."""
        return self.program.classes

    @property
    def size(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        image = self.program.image
        return image.height, image.width, image.channels

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, classes), of images (N, height, width, channels); of one image (classes,).

        Images are uint8 pixels, or floats in 0..1.
        """
        pixels, single = self._check(images)
        logits = np.empty((len(pixels), len(self.classes)), np.float32)
        if self.threads == 1 or len(pixels) == 1:
            self._run_some(pixels, logits)
        else:
            bounds = np.linspace(0, len(pixels), min(self.threads, len(pixels)) + 1).astype(int)
            jobs = [
                self._pool.submit(self._run_some, pixels[a:b], logits[a:b])
                for a, b in zip(bounds[:-1], bounds[1:], strict=True)
            ]
            for job in jobs:
                job.result()
        return logits[0] if single else logits

    def predict(self, images: np.ndarray, top: int = 5) -> list[list[tuple[str, float]]]:
        """The ``top`` classes of each image with their probabilities, the best first."""
        if top < 1:
            raise UserError(f"top: {top} is not possible; use 1 or more")
        logits = np.atleast_2d(self.run(images)).astype(np.float64)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        return [
            [(self.classes[k], float(row[k])) for k in order] for row, order in zip(shares, best, strict=True)
        ]

    def warmup(self) -> None:
        """Compile what is not compiled yet, by running one black image."""
        self.run(np.zeros(self.size, np.uint8))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="binarch")

    def _check(self, images: np.ndarray) -> tuple[np.ndarray, bool]:
        images = np.asarray(images)
        single = images.ndim == 3
        batch = images[None] if single else images
        if batch.ndim != 4 or batch.shape[1:] != self.size:
            raise UserError(
                f"images: shape {images.shape} does not fit; give (height, width, channels) = {self.size}, or a batch of such"
            )
        if batch.dtype != np.uint8 and not np.issubdtype(batch.dtype, np.floating):
            raise UserError(f"images: type {images.dtype} is not possible; give uint8 pixels, or floats in 0..1")
        return batch, single

    def _run_some(self, pixels: np.ndarray, logits: np.ndarray) -> None:
        """Fill ``logits`` with one thread."""
        with self._lock:
            room = self._idle.pop() if self._idle else self._plan.workspace()
        output = self._plan.output
        scale = np.float32(255) if pixels.dtype == np.uint8 else np.float32(1)
        for image, answer in zip(pixels, logits, strict=True):
            flat = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(-1).astype(np.float32) / scale
            kernels.execute(self._plan.steps, flat, *room, *self._plan.constants)
            stop = output.offset + output.pitch * len(answer)
            answer[:] = room[0][output.offset : stop : output.pitch]
        with self._lock:
            self._idle.append(room)


def load(path: str | Path, threads: int = 1) -> Network:
    """Read a packed network: ``load("model.safetensors").predict(image)``."""
    return Network(Program.load(Path(path)), threads)


def plan_of(network: Network) -> Plan:
    """The plan behind a network, for measurements."""
    return network._plan


