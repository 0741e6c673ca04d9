"""The loop that search and training share: stages of epochs of steps, resumable at any step.

Nothing random carries over from one step to the next: the global generator is seeded anew from (seed, stage, epoch,
step), and batches are functions of (seed, epoch, step). So a checkpoint is the learned state and a position, and a run
that was stopped anywhere continues bit for bit on the CPU. Ranks that share a run add their number to the seed, so that
their masks differ, and stop at the same step.
"""

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

import torch
from torch import Tensor

from binarch.data import derive_seed
from binarch.errors import UserError
from binarch.runs import RunFolder
from binarch.training.display import Bar, Display

#: Seconds between checkpoints within an epoch; every epoch ends with one.
CHECKPOINT_SECONDS = 60.0
#: Steps between looks at the loss (each look waits for the device).
LOOK_EVERY = 20


class Interrupted(Exception):
    """Ctrl-C was pressed; the state has been saved."""


class Diverged(UserError):
    """The loss or the weights are no numbers any more."""


class Task(ABC):
    """One stage of a run."""

    title: str
    epochs: int
    steps: int
    batch_size: int

    @abstractmethod
    def step(self, epoch: int, step: int) -> Tensor:
        """Learn from one batch; return (sum of losses, correct answers, images) as a tensor on the device.

        Of several ranks each returns the sums of its part of the batch.
        """

    @abstractmethod
    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        """Close an epoch; return its row for ``metrics.jsonl``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything learned, as tensors and plain containers."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state` returned."""

    @abstractmethod
    def carry(self) -> Any:
        """What the next stage starts from, as tensors and plain containers."""


@final
@dataclass
class _Position:
    stage: int = 0
    epoch: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    seconds: float = 0.0
    carry: Any = None


@final
class Loop:
    """Runs the stages of one run folder.

    ``stages`` builds one task each from what the stage before carried (``None`` for the first).
    """

    def __init__(self, folder: RunFolder, display: Display, seed: int, stages: Sequence[Callable[[Any], Task]]) -> None:
        self.folder, self.display, self.seed, self.stages = folder, display, seed, stages
        self.ranks = folder.ranks
        self.rows: list[dict[str, Any]] = []
        self._saved_at = time.monotonic()

    def run(self) -> Task:
        """Run all stages, from the checkpoint on where there is one; return the last task."""
        position, state = self._restore()
        while True:
            task = self.stages[position.stage](position.carry)
            if state is not None:
                task.load_state(state)
                state = None
            with _interrupts() as pressed:
                self._run_stage(task, position, pressed)
            if position.stage == len(self.stages) - 1:
                return task
            position = _Position(stage=position.stage + 1, carry=task.carry())

    def _run_stage(self, task: Task, position: _Position, pressed: threading.Event) -> None:
        done = position.epoch * task.steps + position.step
        if position.epoch == task.epochs:
            return
        with self.display.steps(task.title, task.epochs * task.steps, done) as bar:
            while position.epoch < task.epochs:
                self._run_epoch(task, position, pressed, bar)

    def _run_epoch(self, task: Task, position: _Position, pressed: threading.Event, bar: Bar) -> None:
        started = time.perf_counter()
        note = ""
        for step in range(position.step, task.steps):
            self._seed_step(position, step)
            (sums,) = self.ranks.sum([task.step(position.epoch, step).double()])
            position.sums = position.sums.to(sums.device) + sums
            position.step = step + 1
            if step % LOOK_EVERY == 0:
                note = self._look(task, position, started)
            bar.advance(note)
            due = time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
            stop, due = self.ranks.any(pressed.is_set() or self.ranks.orphaned, due)
            if stop or due:
                self._look(task, position, started)
                position.seconds += time.perf_counter() - started
                started = time.perf_counter()
                self._save(task, position)
            if stop:
                raise Interrupted
        self._look(task, position, started)
        row = task.epoch_end(position.epoch, position.sums.tolist())
        if not all(math.isfinite(value) for value in row.values() if isinstance(value, float)):
            self._refuse(task, position, "validation_loss")
        seconds = position.seconds + time.perf_counter() - started
        rate = round(task.steps * task.batch_size / seconds, 1)
        self.rows.append({**row, "seconds": round(seconds, 3), "images_per_second": rate})
        self.folder.write_metrics(self.rows)
        self.display.say(_line(task, self.rows[-1]))
        position.epoch, position.step, position.seconds = position.epoch + 1, 0, 0.0
        position.sums = torch.zeros(3, dtype=torch.float64)
        self._save(task, position)
        if self.ranks.any(pressed.is_set() or self.ranks.orphaned)[0]:
            raise Interrupted

    def _seed_step(self, position: _Position, step: int) -> None:
        rank = () if self.ranks.first else ("rank", self.ranks.rank)
        torch.manual_seed(derive_seed(self.seed, "step", position.stage, position.epoch, step, *rank))

    def _look(self, task: Task, position: _Position, started: float) -> str:
        """Wait for the device; refuse to go on, or to save, where the loss is no number any more."""
        loss, correct, count = position.sums.tolist()
        if not math.isfinite(loss):
            self._refuse(task, position, "loss")
        rate = position.step * task.batch_size / max(position.seconds + time.perf_counter() - started, 1e-9)
        return f"loss {loss / count:.3f}  correct {correct / count:.1%}  {rate:,.0f} images/s"

    def _refuse(self, task: Task, position: _Position, what: str) -> NoReturn:
        raise Diverged(
            f"{what}: not finite at {task.title}, epoch {position.epoch + 1}, step {position.step}; start again with "
            "another --out and a lower --learning-rate, a lower --clip, or --precision 32"
        )

    def _restore(self) -> tuple[_Position, dict[str, Any] | None]:
        saved = self.folder.load_checkpoint()
        if saved is None:
            return _Position(), None
        position = saved["position"]
        if position["stage"] >= len(self.stages):
            raise UserError(f"{self.folder / 'last.ckpt'}: written by a run with more stages; give another --out")
        self.rows = saved["rows"]
        self.folder.write_metrics(self.rows)
        self.display.say(
            f"Resuming {self.folder.path} at stage {position['stage'] + 1}, epoch {position['epoch'] + 1}, "
            f"step {position['step']}"
        )
        return _Position(**position), saved["task"]

    def _save(self, task: Task, position: _Position) -> None:
        """Write the checkpoint; what holds a number that is none is never written over one that is sound."""
        state = task.state()
        if not self.ranks.agree(_tensors(state)):
            raise UserError(
                f"ranks: no longer equal at {task.title}, epoch {position.epoch + 1}, step {position.step}; start all "
                "on machines of one kind with the same versions, or continue from the last checkpoint with one process"
            )
        if not all(torch.isfinite(tensor).all() for tensor in _tensors(state)):
            self._refuse(task, position, "weights")
        self.folder.save_checkpoint({"position": vars(position), "rows": self.rows, "task": state})
        self.ranks.wait()  # a rank that ends now makes torchrun end the one that writes
        self._saved_at = time.monotonic()


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for item in state.values() if isinstance(state, dict) else state:
            yield from _tensors(item)


def _line(task: Task, row: dict[str, Any]) -> str:
    parts = [f"{task.title}  epoch {row['epoch'] + 1}/{task.epochs}"]
    for key, label in (("train", "train"), ("validation", "validation")):
        if f"{key}_accuracy" in row:
            parts.append(f"{label} loss {row[f'{key}_loss']:.4f} accuracy {row[f'{key}_accuracy']:.2%}")
    parts.append(f"{row['seconds']:.1f} s, {row['images_per_second']:,.0f} images/s")
    return "  ".join(parts)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that it takes effect between two steps; the second one acts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
