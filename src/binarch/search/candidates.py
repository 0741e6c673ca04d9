"""Many candidates: each scored once, whoever does it and however often the search is started again."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import final

from binarch.errors import UserError
from binarch.runs import RunFolder
from binarch.search.evaluation import Job, Record
from binarch.search.executor import Executor
from binarch.training import Display


@final
class Candidates:
    """Scores the ``total`` candidates of one series, e.g. all models of one evolution.

    Each finished evaluation is written to ``record.json`` in its folder, by this process, the moment its record is
    here, and told in one line. An evaluation that has its record is never made again.
    """

    def __init__(self, title: str, total: int, folder: RunFolder, executor: Executor, display: Display) -> None:
        self.title, self.total, self.folder = title, total, folder
        self._executor, self._display = executor, display
        self._records: dict[str, Record] = {}
        self._started, self._made = time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """What the trainings of all records took together."""
        return round(sum(record.seconds for record in self._records.values()), 1)

    def scores(self, jobs: Sequence[Job]) -> list[Record]:
        """The records of ``jobs``, in their order: read back where there are such, else made by the executor."""
        missing = [job for job in jobs if not self._read_back(job)]
        for job, record in self._executor.records(missing):
            self.folder.child(job.name).write_json("record.json", record.to_dict())
            self._records[job.name] = record
            self._made += 1
            self._display.say(self._line(record))
        return [self._records[job.name] for job in jobs]

    def _read_back(self, job: Job) -> bool:
        child = self.folder.child(job.name)
        if not child.has("record.json"):
            return False
        record = Record.read(child)
        if record.genotype != job.genotype:
            raise UserError(f"{child / 'record.json'}: is of another cell; start the search anew with another --out")
        self._records[job.name] = record
        return True

    def _line(self, record: Record) -> str:
        done, each = len(self._records), (time.monotonic() - self._started) / self._made
        best, name = max((other.validation_accuracy, name) for name, other in self._records.items())
        left = timedelta(seconds=round((self.total - done) * each))
        return (
            f"{self.title}: {done} of {self.total}  accuracy {record.validation_accuracy:.2%}  "
            f"best {best:.2%} ({name})  {60 / each:.3g} a minute, {left} left"
        )
