"""A packed network, ready to run."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import final

import numpy as np

from binarch.errors import UserError
from binarch.runtime import compilation, kernels, reference
from binarch.runtime.plan import Plan, Planner
from binarch.runtime.program import Program

#: Images that a network answers plainly before it compiles: some seconds, where compiling takes about twenty.
FEW = 8
#: Seconds of compiling that are worth a word: kernels that were compiled before load sooner.
PATIENCE = 2.0


@final
class Network:
    """Runs a :class:`Program`: plain arrays in, plain arrays out; safe to call from several threads at once.

    With several ``threads`` the images of a batch are dealt out to them; a single image is split by channels.

    The fast kernels must be compiled once per machine. :meth:`run` waits for that; :meth:`predict` answers the first
    few images without them, by the plain reference, whose bits are the same.
    """

    def __init__(self, program: Program, threads: int = 1) -> None:
        if threads < 1:
            raise UserError(f"threads: {threads} is not possible; use 1 or more")
        self.program = program
        self.threads = threads
        self._plan = Planner(program).plan()
        self._idle: list[_Room] = []
        self._answered_plainly = 0
        self._lock = threading.Lock()
        self._together = threading.Lock()

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
        if not len(pixels):
            return logits
        if len(pixels) > 1 and self.threads > 1:
            bounds = np.linspace(0, len(pixels), min(self.threads, len(pixels)) + 1).astype(int)
            stretches = [slice(a, b) for a, b in pairwise(bounds)]
            list(self._pool.map(lambda part: self._run_some(pixels[part], logits[part]), stretches))
        # Parts of one image wait for each other, so they must all be running: one such image at a time.
        elif self.threads > 1 and self._together.acquire(blocking=False):
            try:
                self._run_together(pixels[0], logits[0])
            finally:
                self._together.release()
        else:
            self._run_some(pixels, logits)
        return logits[0] if single else logits

    def predict(self, images: np.ndarray, top: int = 5) -> list[list[tuple[str, float]]]:
        """The ``top`` classes of each image with their probabilities, the best first.

        While the kernels are not :attr:`compiled`, the first :data:`FEW` images take the plain reference (below half
        a second each for a network of 20 cells); whoever asks for more waits for the compiler.
        """
        if top < 1:
            raise UserError(f"top: {top} is not possible; use 1 or more")
        logits = np.atleast_2d(self._logits(images)).astype(np.float64)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        return [[(self.classes[k], float(row[k])) for k in order] for row, order in zip(shares, best, strict=True)]

    @property
    def compiled(self) -> bool:
        """Whether the kernels are compiled for this machine, in this process or by an earlier one."""
        return compilation.is_done()

    def warmup(self, say: Callable[[str], None] = lambda text: None) -> None:
        """Compile what is not compiled yet, by running one black image; if that takes long, ``say`` what does."""
        told = threading.Timer(
            PATIENCE, say, ["Compiling the kernels for this machine: once, and kept for the next time ..."]
        )
        told.start()
        try:
            self.run(np.zeros(self.size, np.uint8))
        finally:
            told.cancel()

    def _logits(self, images: np.ndarray) -> np.ndarray:
        """As :meth:`run`, or without compiling if the images are few."""
        pixels, _ = self._check(images)
        with self._lock:
            few = 0 < len(pixels) <= FEW - self._answered_plainly and not self.compiled
            self._answered_plainly += len(pixels) * few
        if not few:
            return self.run(images)
        return reference.run(self.program, np.stack([_planes(image) for image in pixels]))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="binarch-batch")

    @cached_property
    def _team(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="binarch-image")

    def _check(self, images: np.ndarray) -> tuple[np.ndarray, bool]:
        images = np.asarray(images)
        single = images.ndim == 3
        batch = images[None] if single else images
        if batch.ndim != 4 or batch.shape[1:] != self.size:
            raise UserError(
                f"images: shape {images.shape} does not fit; give (height, width, channels) = {self.size}, or a batch"
            )
        if batch.dtype != np.uint8 and batch.size and batch.max() > 1 and np.issubdtype(batch.dtype, np.floating):
            raise UserError(f"images: floats up to {batch.max():g}; give floats in 0..1, or uint8 pixels")
        if batch.dtype != np.uint8 and not np.issubdtype(batch.dtype, np.floating):
            raise UserError(f"images: type {images.dtype} is not possible; give uint8 pixels, or floats in 0..1")
        return batch, single

    def _run_some(self, pixels: np.ndarray, logits: np.ndarray) -> None:
        """Fill ``logits`` with one thread."""
        with self._lock:
            room = self._idle.pop() if self._idle else _Room(self._plan, 1)
        for image, answer in zip(pixels, logits, strict=True):
            room.run(_flat(image), 0)
            answer[:] = room.answer()
        with self._lock:
            self._idle.append(room)

    def _run_together(self, image: np.ndarray, answer: np.ndarray) -> None:
        """Fill ``answer`` with all threads."""
        room, flat = self._shared_room, _flat(image)
        room.counter[0] = 0
        try:
            list(self._team.map(lambda part: room.run(flat, part), range(self.threads)))
        except BaseException:  # Ctrl-C: let parts that wait for others pass, and leave them the room
            room.counter[0] = 1 << 60
            del self._shared_room
            raise
        answer[:] = room.answer()

    @cached_property
    def _shared_room(self) -> "_Room":
        return _Room(self._plan, self.threads)


@final
class _Room:
    """Where one image at a time is computed, by one thread or several."""

    def __init__(self, plan: Plan, parts: int) -> None:
        self.plan = plan
        self.counter = np.zeros(1, np.int64)
        self._shared = plan.shared()
        self._scratch = [plan.scratch() for _ in range(parts)]

    def run(self, flat: np.ndarray, part: int) -> None:
        """Compute one part."""
        parts = len(self._scratch)
        scratch, constants = self._scratch[part], self.plan.constants
        kernels.execute(self.plan.steps, flat, part, parts, self.counter, *self._shared, *scratch, *constants)

    def answer(self) -> np.ndarray:
        """The logits."""
        output = self.plan.output
        return self._shared[0][output.offset : output.offset + output.pitch * self.plan.classes : output.pitch]


def _planes(image: np.ndarray) -> np.ndarray:
    """(height, width, channels) pixels as float32 in 0..1, channel by channel."""
    scale = np.float32(255) if image.dtype == np.uint8 else np.float32(1)
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / scale


def _flat(image: np.ndarray) -> np.ndarray:
    """The same as one run of numbers."""
    return _planes(image).reshape(-1)


def load(path: str | Path, threads: int = 1) -> Network:
    """Read a packed network: ``load("model.safetensors").predict(image)``."""
    return Network(Program.load(Path(path)), threads)
