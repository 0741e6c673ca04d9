"""Where candidates are evaluated: what every executor promises, and the one that needs no other process."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self, final

from binarch.search.evaluation import Evaluator, Job, Record
from binarch.training import Display


class Executor(ABC):
    """Evaluates jobs, one or many at a time; a context that gives its workers back at the end.

    Nothing starts before the first job. An executor writes nothing itself: an evaluation writes its own folder, where
    it can (see :class:`Evaluator`), and its record comes back to the caller.
    """

    @abstractmethod
    def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
        """Evaluate ``jobs``, which are independent of one another; yield each with its record as it is finished.

        A worker that dies is replaced and its job done again. What a job itself raises ends the iteration; a job that
        ends its worker several times in a row is a :class:`binarch.errors.UserError`. After Ctrl-C running jobs are
        stopped, with :class:`binarch.training.Interrupted`.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop what still runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


@final
class InProcess(Executor):
    """One after the other, in this process, with a bar and a line per epoch."""

    def __init__(self, evaluate: Evaluator, display: Display) -> None:
        self._evaluate, self._display = evaluate, display

    def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
        """The jobs in their order."""
        for job in jobs:
            yield job, self._evaluate(job, self._display)

    def close(self) -> None:
        """Nothing runs."""
