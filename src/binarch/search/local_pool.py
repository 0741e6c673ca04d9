"""Several candidates at a time on this machine: worker processes, each with a pipe to this one."""

import os
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import final

import torch
from rich.console import Console
from torch import multiprocessing

from binarch.errors import UserError
from binarch.search.evaluation import Evaluator, Job, Record
from binarch.search.executor import Executor
from binarch.training import Display, Interrupted

#: So often in a row may a job end its worker.
MAX_DEATHS = 3
#: Seconds that workers have to save their state after Ctrl-C.
GRACE_SECONDS = 10.0


@final
class LocalPool(Executor):
    """``workers`` processes, which live as long as the pool and take a new job when they have finished one.

    Processes are spawned, not forked (CUDA and threads do not survive a fork); the images are handed over in shared
    memory. The threads of torch are dealt out to the workers. With GPUs, worker number i of n GPUs computes on GPU
    i mod n, so workers share a GPU if there are more of them.

    A worker that is killed is seen at once, by the end of its pipe. Another one takes its place; nobody else notices.
    Workers end with this process, however it ends.
    """

    def __init__(self, evaluate: Evaluator, workers: int) -> None:
        self._evaluate, self._count = evaluate, workers
        self._workers: list[_Worker] = []

    def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
        """The jobs in the order in which they are finished."""
        waiting, deaths = deque(jobs), Counter[str]()
        running: dict[_Worker, Job] = {}
        try:
            while waiting or running:
                while waiting and (worker := self._idle(running)) is not None:
                    if worker.give(waiting[0]):
                        running[worker] = waiting.popleft()
                for worker in _ready(running):
                    job = running.pop(worker)
                    record = worker.answer()
                    if record is not None:
                        yield job, record
                        continue
                    deaths[job.name] += 1
                    if deaths[job.name] == MAX_DEATHS:
                        raise UserError(_told(job, worker.ended()))
                    waiting.appendleft(job)
        except KeyboardInterrupt:
            yield from _last_records(running)
            raise Interrupted from None
        finally:
            _stop(running)
            for worker in running:  # nobody waits for their answers any more
                worker.kill()

    def _idle(self, running: dict["_Worker", Job]) -> "_Worker | None":
        """A living worker without a job; a new one where there are fewer than there may be."""
        self._workers = [worker for worker in self._workers if worker in running or worker.lives]
        for worker in self._workers:
            if worker not in running:
                return worker
        if len(self._workers) == self._count:
            return None
        places = set(range(self._count)) - {worker.place for worker in self._workers}
        self._workers.append(_Worker(self._evaluate, min(places), self._count))
        return self._workers[-1]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.kill()
        self._workers = []


@final
class _Worker:
    """One process, seen from this side."""

    def __init__(self, evaluate: Evaluator, place: int, count: int) -> None:
        self.place = place
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        threads = max(1, torch.get_num_threads() // count)
        arguments = (there, evaluate, threads, _gpu(place))
        self._process = context.Process(target=_work, args=arguments, name=f"binarch-{place}", daemon=True)
        self._process.start()
        there.close()  # the other side is the worker's alone: if it dies, the pipe ends

    @property
    def lives(self) -> bool:
        return self._process.is_alive()

    def give(self, job: Job) -> bool:
        """Send ``job``; whether the worker lived to take it."""
        try:
            self.pipe.send(job)
        except OSError:
            self.kill()
            return False
        return True

    def answer(self) -> Record | None:
        """The record, or None if the worker has died; what the job raised is raised here."""
        try:
            answer: Record | Exception = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def interrupt(self) -> None:
        if self._process.pid is not None and self.lives:
            os.kill(self._process.pid, signal.SIGINT)

    def ended(self) -> str:
        """How the process ended, for people."""
        self._process.join()
        code = self._process.exitcode or 0
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _ready(running: dict[_Worker, Job]) -> list[_Worker]:
    """Wait for an answer, or the death of a worker."""
    ready = wait([worker.pipe for worker in running])
    return [worker for worker in running if worker.pipe in ready]


def _stop(running: dict[_Worker, Job]) -> None:
    """Interrupt trainings, as Ctrl-C does, and give them time to save; each answers that it was interrupted."""
    end = time.monotonic() + GRACE_SECONDS
    for worker in running:
        worker.interrupt()
    for worker in running:
        worker.pipe.poll(max(0.0, end - time.monotonic()))


def _last_records(running: dict[_Worker, Job]) -> Iterator[tuple[Job, Record]]:
    """Stop the trainings; those that were finished meanwhile count."""
    _stop(running)
    for worker, job in list(running.items()):
        del running[worker]
        with suppress(Exception):
            record = worker.answer() if worker.pipe.poll() else None
            if record is not None:
                yield job, record
        worker.kill()


def _gpu(place: int) -> str | None:
    """The GPU of the worker at ``place``, as CUDA_VISIBLE_DEVICES names it."""
    count = torch.cuda.device_count()
    if not count:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return names[place % count]


def _told(job: Job, ended: str) -> str:
    return (
        f"workers: {job.name} ended its worker {MAX_DEATHS} times (the last time {ended}); if memory is short, give "
        "fewer --workers, and --resume auto to go on"
    )


def _work(pipe: Connection, evaluate: Evaluator, threads: int, gpu: str | None) -> None:
    """A worker's life: take a job, send its record, until the pool goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a training listens for itself (Loop), and saves
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before CUDA starts in this process
    display = Display(console=Console(quiet=True))
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(evaluate(job, display))
        except (UserError, Interrupted) as error:
            pipe.send(error)
        except Exception:
            pipe.send(RuntimeError(f"{job.name} failed in its worker:\n{traceback.format_exc()}"))


def _follow_parent() -> None:
    """End this process when the one that spawned it has ended: nobody is left to tell."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
