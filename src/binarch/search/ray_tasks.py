"""Several candidates at a time on the machines of a Ray cluster: one task each."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, final

from rich.console import Console

from binarch.errors import UserError
from binarch.search.evaluation import Evaluator, Job, Record
from binarch.search.executor import Executor
from binarch.search.local_pool import GRACE_SECONDS, MAX_DEATHS
from binarch.training import Display, Interrupted


@final
class RayTasks(Executor):
    """At most ``workers`` tasks at a time on the cluster that ``RAY_ADDRESS`` names or that runs on this machine.

    Where there is none, Ray is started on this machine for as long as the search takes, without dashboard and usage
    statistics. A task asks for one CPU, and for one GPU besides if the search may compute on GPUs and the cluster has
    any. Settings and images travel to the nodes through Ray's object store, records come back to this process, so
    nodes need neither the data nor a shared file system; with one, an evaluation that died with its node goes on from
    its checkpoint. Ray itself runs the tasks of dead workers and nodes again.
    """

    def __init__(self, evaluate: Evaluator, workers: int) -> None:
        self._ray = _import_ray()
        self._evaluate, self._count = evaluate, workers
        self._task: Any = None
        self._shared: Any = None
        self._ours = False

    def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
        """The jobs in the order in which they are finished."""
        ray, waiting = self._ray, deque(jobs)
        if waiting and self._task is None:
            self._connect()
        running: dict[Any, Job] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._count:
                    job = waiting.popleft()
                    running[self._task.remote(self._shared, job)] = job
                (ready, *_), _ = ray.wait(list(running))
                job = running.pop(ready)
                yield job, self._record(ready, job)
        except KeyboardInterrupt:
            for task in running:
                ray.cancel(task)  # as Ctrl-C does: a training saves its state
            ray.wait(list(running), num_returns=len(running), timeout=GRACE_SECONDS)
            raise Interrupted from None
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def _record(self, task: Any, job: Job) -> Record:
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.RayTaskError as error:
            raise error.cause from None
        except (errors.RayError, errors.RaySystemError) as error:
            raise UserError(
                f"executor: {job.name} ended its Ray worker or node {MAX_DEATHS} times ({type(error).__name__}); look "
                "at the nodes (ray status), and give --resume auto to go on"
            ) from None

    def _connect(self) -> None:
        ray = self._ray
        if not ray.is_initialized():
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a Ray that is started here reports to nobody
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="WARNING")
            except ConnectionError as error:
                raise UserError(f"executor: no Ray cluster answers ({error}); see docs/cluster.md") from None
            self._ours = True
        device, found = self._evaluate.config.device, ray.cluster_resources().get("GPU", 0)
        if device == "cuda" and not found:
            raise UserError("--device cuda: the Ray cluster has no GPU; start a node that has, or use --device cpu")
        gpus = 1 if device != "cpu" and found else 0
        self._task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_DEATHS - 1)(_evaluate)
        self._shared = ray.put(self._evaluate)

    def close(self) -> None:
        """Leave the cluster; one that was started for this search ends."""
        if self._ours:
            self._ray.shutdown()
        self._task, self._shared, self._ours = None, None, False


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise UserError("executor: ray is not installed; pip install '.[ray]', or use --executor local") from None
    return ray


def _evaluate(evaluate: Evaluator, job: Job) -> Record:
    """What a task does, on its node."""
    return evaluate(job, Display(console=Console(quiet=True)))
