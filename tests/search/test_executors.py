"""Executors: the same records in the same order from all; the death of a worker or a node costs no evaluation."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from rich.console import Console

from binarch.data import DataConfig, Dataset, load
from binarch.errors import UserError
from binarch.runs import RunFolder
from binarch.search import SearchConfig, search
from binarch.search.candidates import Candidates
from binarch.search.derive import random_genotype
from binarch.search.evaluation import Evaluator, Job, Record
from binarch.search.executor import Executor, InProcess
from binarch.search.local_pool import LocalPool
from binarch.search.ray_tasks import RayTasks
from binarch.spaces import Space
from binarch.training import Display, Interrupted

TINY = SearchConfig(
    data=DataConfig(limit=60), strategy="evolution", cells=(3,), channels=4, groups=2, batch_size=16, crop_padding=1,
    flip=False, rank_epochs=1, candidates=6, population=3, sample=2, brood=2, device="cpu",
)  # fmt: skip
#: Trainings so long that a kill finds them at work; a checkpoint follows each epoch.
LONG = replace(TINY, rank_epochs=12, candidates=4, population=2)
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (pip install 'binarch[ray]')")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TINY.data)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """All executors compute with one thread here, so they compute the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet() -> Display:
    return Display(console=Console(quiet=True))


def jobs(count: int) -> list[Job]:
    generator = torch.Generator().manual_seed(0)
    return [Job(f"job-{index}", random_genotype(Space.candidates, generator)) for index in range(count)]


def found(records: Sequence[Record]) -> list[dict]:
    """The records without their times."""
    return [{key: value for key, value in record.to_dict().items() if key != "seconds"} for record in records]


def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look again and again until ``happened``; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.01)


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Run ``act`` in a thread beside the block; its failure is the block's."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def workers() -> list[int]:
    """The processes of the local pool."""
    return [child.pid for child in multiprocessing.active_children() if child.name.startswith("binarch-") and child.pid]


def once_each(folder: Path, total: int) -> bool:
    """Whether the log of a search tells every evaluation exactly once, and all have their record."""
    told = [line.split(": ")[1].split(" of ")[0] for line in (folder / "log.txt").read_text().splitlines()]
    records = list(folder.glob("seed-0-model-*/record.json"))
    return told == [str(index + 1) for index in range(total)] and len(records) == total


def history(folder: Path) -> list[dict]:
    return RunFolder(folder).read_json("evolution-0.json")["models"]


@pytest.fixture(scope="module")
def expected(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What the plain executor finds."""
    folder = RunFolder(tmp_path_factory.mktemp("plain"))
    torch.set_num_threads(1)
    with InProcess(Evaluator(TINY, digits, folder.path), quiet()) as executor:
        return found(Candidates("Plain", 4, folder, executor, quiet()).scores(jobs(4)))


def test_a_pool_gives_the_same_records_in_the_order_of_the_jobs(
    expected: list[dict], digits: Dataset, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    with LocalPool(Evaluator(TINY, digits, tmp_path), 2) as executor:
        candidates = Candidates("Pool", 4, folder, executor, quiet())
        assert found(candidates.scores(jobs(4))) == expected
        assert len(workers()) == 2
        assert candidates.seconds > 0
        stamps = [(tmp_path / job.name / "record.json").stat().st_mtime_ns for job in jobs(4)]
        assert found(Candidates("Again", 4, folder, executor, quiet()).scores(jobs(4))) == expected
        assert stamps == [(tmp_path / job.name / "record.json").stat().st_mtime_ns for job in jobs(4)]
    assert workers() == []


def test_without_a_shared_folder_the_records_come_back_all_the_same(
    expected: list[dict], digits: Dataset, tmp_path: Path
) -> None:
    with LocalPool(Evaluator(TINY, digits, tmp_path / "not here"), 2) as executor:
        assert found(Candidates("Pool", 2, RunFolder(tmp_path), executor, quiet()).scores(jobs(2))) == expected[:2]
    for job in jobs(2):
        assert [file.name for file in (tmp_path / job.name).iterdir()] == ["record.json"]
    assert not (tmp_path / "not here").exists()


def test_a_killed_worker_loses_nothing_and_executors_may_change(digits: Dataset, tmp_path: Path) -> None:
    """A search with two workers, one of which is killed, against one in this process that is stopped and resumed."""

    def kill_one() -> None:
        wait_for(lambda: len(list(tmp_path.glob("killed/seed-0-model-*/last.ckpt"))) == 2)
        os.kill(workers()[0], signal.SIGKILL)

    with meanwhile(kill_one):
        pooled = search(replace(LONG, workers=2), digits, RunFolder(tmp_path / "killed"), quiet())
    assert once_each(tmp_path / "killed", 4)
    logs = [path.read_text() for path in tmp_path.glob("killed/seed-0-model-*/log.txt")]
    assert sum("Resuming" in log for log in logs) == 1

    class Stop(Exception):
        pass

    class Screen(Console):
        def print(self, *objects: object, **_: object) -> None:
            if ": 2 of 4 " in str(objects[0]):
                raise Stop

    folder = RunFolder(tmp_path / "stopped")
    with suppress(Stop):
        search(LONG, digits, folder, Display(console=Screen()))
    with pytest.raises(UserError, match="brood"):
        search(replace(LONG, brood=1), digits, folder, quiet(), resume=True)
    before = {path: path.stat().st_mtime_ns for path in folder.path.glob("*-model-*/re*.json")}
    assert len(before) == 4
    alone = search(replace(LONG, workers=2), digits, folder, quiet(), resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert alone == pooled
    assert history(folder.path) == history(tmp_path / "killed")
    assert folder.read_json("result.json")["search_seconds"] > 0


def test_a_job_that_ends_every_worker_is_given_up(digits: Dataset, tmp_path: Path) -> None:
    def kill_all() -> None:
        killed: set[int] = set()
        while len(killed) < 3:
            wait_for(lambda: bool(set(workers()) - killed))
            for pid in set(workers()) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)

    with (
        meanwhile(kill_all),
        LocalPool(Evaluator(LONG, digits, tmp_path), 1) as executor,
        pytest.raises(UserError, match=r"job-0 ended its worker 3 times .*by signal 9.*--resume auto"),
    ):
        list(executor.records(jobs(1)))


def test_ctrl_c_saves_in_every_worker(digits: Dataset, tmp_path: Path) -> None:
    def press() -> None:
        wait_for(lambda: len(list(tmp_path.glob("job-*/last.ckpt"))) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    long = replace(LONG, rank_epochs=500)
    with (
        LocalPool(Evaluator(long, digits, tmp_path), 2) as executor,
        pytest.raises(Interrupted),
        meanwhile(press),
    ):
        list(executor.records(jobs(2)))
    assert workers() == []


def test_what_a_job_raises_is_raised_here(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "job-0").mkdir()
    (tmp_path / "job-0" / "config.json").write_text("{")
    (tmp_path / "job-1").write_text("")
    with LocalPool(Evaluator(TINY, digits, tmp_path), 1) as executor:
        with pytest.raises(UserError, match=r"config\.json: not valid JSON"):
            list(executor.records(jobs(1)))
        with pytest.raises(UserError, match="is a file"):
            list(executor.records(jobs(2)[1:]))


def test_records_that_are_damaged_or_of_another_cell_are_named(digits: Dataset, tmp_path: Path) -> None:
    class Nobody(Executor):
        def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
            return iter(())

        def close(self) -> None:
            pass

    one, two = jobs(2)
    candidates = Candidates("Test", 1, RunFolder(tmp_path), Nobody(), quiet())
    folder = RunFolder(tmp_path).child(one.name)
    record = Record(one.genotype, 0.5, 1.5, 100)
    folder.write_json("record.json", record.to_dict())
    assert candidates.scores([one]) == [record]
    folder.write_json("record.json", Record(two.genotype, 0.5, 1.5, 100).to_dict())
    with pytest.raises(UserError, match="another cell"):
        candidates.scores([one])
    folder.write_json("record.json", {"validation_accuracy": 0.5})
    with pytest.raises(UserError, match=r"record\.json: no record"):
        candidates.scores([one])


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_its_extra_is_named(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pip install 'binarch\[ray\]'"):
        search(replace(TINY, executor="ray"), digits, RunFolder(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()


@needs_ray
def test_ray_starts_here_and_goes_on_when_a_node_dies(
    expected: list[dict], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of one CPU; the second is killed while both are at work."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        second = cluster.add_node(**small)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)

        def kill_node() -> None:
            wait_for(lambda: len(list(tmp_path.glob("seed-0-model-*/last.ckpt"))) == 2)
            cluster.remove_node(second, allow_graceful=False)

        with meanwhile(kill_node):
            search(replace(LONG, executor="ray", workers=2), digits, RunFolder(tmp_path), quiet())
        assert once_each(tmp_path, 4)
        logs = [path.read_text() for path in tmp_path.glob("seed-0-model-*/log.txt")]
        assert sum("Resuming" in log for log in logs) == 1
        with RayTasks(Evaluator(TINY, digits, tmp_path / "not here"), 1) as executor:
            candidates = Candidates("Ray", 2, RunFolder(tmp_path), executor, quiet())
            assert found(candidates.scores(jobs(2))) == expected[:2]
        assert not ray.is_initialized()
    finally:
        ray.shutdown()
        cluster.shutdown()
