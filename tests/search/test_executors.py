"""Executors: the same records in the same order from all; the death of a worker or a node costs no evaluation."""

import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    flip="none", rank_epochs=1, candidates=6, population=3, sample=2, brood=2, device="cpu",
)  # fmt: skip
#: Trainings so long that a kill finds them at work; a checkpoint follows each epoch.
LONG = replace(TINY, rank_epochs=4, candidates=3, population=2, brood=1)
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (pip install '.[ray]')")


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
    return [Job(f"job-{index}", random_genotype(Space.rules, generator)) for index in range(count)]


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


def at_work(folder: Path) -> list[Path]:
    """Models whose training has a checkpoint and no result yet."""
    begun = [path.parent for path in folder.glob("seed-0-model-*/last.ckpt")]
    return [path for path in begun if not (path / "result.json").exists()]


def told(folder: Path) -> list[int]:
    """The counts that the log of a search tells, one for each finished evaluation."""
    return [int(line.split(": ")[1].split(" of ")[0]) for line in (folder / "log.txt").read_text().splitlines()]


def history(folder: Path) -> list[dict]:
    return RunFolder(folder).read_json("evolution-0.json")["models"]


@pytest.fixture(scope="module")
def expected(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What the plain executor finds."""
    folder = RunFolder(tmp_path_factory.mktemp("plain"))
    torch.set_num_threads(1)
    with InProcess(Evaluator(TINY, digits, folder), quiet()) as executor:
        return found(Candidates("Plain", 2, folder, executor, quiet()).scores(jobs(2)))


def test_records_come_in_the_order_of_the_jobs_whoever_is_first(tmp_path: Path) -> None:
    class Backwards(Executor):
        def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
            for job in reversed(jobs):
                yield job, Record(job.genotype, len(job.name) / 10, 2.5, 100)

        def close(self) -> None:
            pass

    candidates = Candidates("Test", 3, RunFolder(tmp_path), Backwards(), quiet())
    assert [record.genotype for record in candidates.scores(jobs(3))] == [job.genotype for job in jobs(3)]
    assert candidates.seconds == 7.5


def test_without_a_shared_folder_the_record_comes_back_all_the_same(
    expected: list[dict], digits: Dataset, tmp_path: Path
) -> None:
    with InProcess(Evaluator(TINY, digits, RunFolder(tmp_path / "not here")), quiet()) as executor:
        assert found(Candidates("Pool", 1, RunFolder(tmp_path), executor, quiet()).scores(jobs(1))) == expected[:1]
    assert [file.name for file in tmp_path.iterdir()] == ["job-0"]
    assert [file.name for file in (tmp_path / "job-0").iterdir()] == ["record.json"]


def test_killed_workers_lose_nothing_and_executors_may_change(digits: Dataset, tmp_path: Path) -> None:
    """Two workers, killed at work, find what this process finds; it may finish what they began."""

    def kill() -> None:
        wait_for(lambda: bool(at_work(tmp_path / "pool")))
        for pid in workers():
            os.kill(pid, signal.SIGKILL)

    class Stop(Exception):
        pass

    class Screen(Console):
        def print(self, *objects: object, **_: object) -> None:
            if ": 2 of 3 " in str(objects[0]):
                raise Stop

    folder = RunFolder(tmp_path / "pool")
    with pytest.raises(Stop), meanwhile(kill):
        search(replace(LONG, workers=2), digits, folder, Display(console=Screen()))
    assert workers() == []
    logs = [path.read_text() for path in folder.path.glob("seed-0-model-*/log.txt")]
    assert any("Resuming" in log for log in logs)
    finished = {path: path.stat().st_mtime_ns for path in folder.path.glob("*-model-*/re*.json")}
    assert len(finished) == 4  # two evaluations with their result and their record
    with pytest.raises(UserError, match="brood"):
        search(replace(LONG, brood=2), digits, folder, quiet(), resume=True)
    search(LONG, digits, folder, quiet(), resume=True)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert told(folder.path) == [1, 3]  # the screen stopped at the second before it was written down
    assert len(list(folder.path.glob("*-model-*/record.json"))) == 3
    assert folder.read_json("result.json")["search_seconds"] > 0
    search(LONG, digits, RunFolder(tmp_path / "plain"), quiet())
    assert history(folder.path) == history(tmp_path / "plain")


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
        LocalPool(Evaluator(LONG, digits, RunFolder(tmp_path)), 1) as executor,
        pytest.raises(UserError, match=r"job-0 ended its worker 3 times .*by signal 9.*--resume auto"),
    ):
        list(executor.records(jobs(1)))


def test_mistakes_in_a_worker_are_raised_here_and_ctrl_c_saves_there(digits: Dataset, tmp_path: Path) -> None:
    def press() -> None:
        wait_for(lambda: (tmp_path / "job-1" / "last.ckpt").is_file())
        os.kill(os.getpid(), signal.SIGINT)

    (tmp_path / "job-0").write_text("")
    with LocalPool(Evaluator(replace(LONG, rank_epochs=500), digits, RunFolder(tmp_path)), 1) as executor:
        with pytest.raises(UserError, match="job-0: is a file"):
            list(executor.records(jobs(1)))
        with pytest.raises(Interrupted), meanwhile(press):
            list(executor.records(jobs(2)[1:]))
    assert workers() == []
    assert not (tmp_path / "job-1" / "result.json").exists()
    saved = RunFolder(tmp_path / "job-1").load_checkpoint()
    assert saved is not None
    assert not list((tmp_path / "job-1").glob(".*.tmp"))


def test_a_candidate_that_diverges_is_worth_nothing(digits: Dataset, tmp_path: Path) -> None:
    nan = (float("nan"),) * 3
    broken = Dataset(digits.name, digits.classes, digits.train, nan, digits.std, None)
    with InProcess(Evaluator(TINY, broken, RunFolder(tmp_path)), quiet()) as executor:
        ((_, record),) = executor.records(jobs(1))
    assert record.validation_accuracy == 0
    assert record.params > 100


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


@pytest.fixture(scope="module")
def alone() -> Iterator[pytest.MonkeyPatch]:
    """Ray with a token of its own (it remembers one for the life of a process), reporting to nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield patch


@needs_ray
def test_ray_starts_here_and_sends_the_records_back(
    expected: list[dict], digits: Dataset, tmp_path: Path, alone: pytest.MonkeyPatch
) -> None:
    import ray

    alone.setenv("RAY_ADDRESS", "local")  # not the cluster of somebody else on this machine
    with RayTasks(Evaluator(TINY, digits, RunFolder(tmp_path / "not here")), 1) as executor:
        assert not ray.is_initialized()
        assert found(Candidates("Ray", 2, RunFolder(tmp_path), executor, quiet()).scores(jobs(2))) == expected
        (tmp_path / "not here").mkdir()
        (tmp_path / "not here" / "job-0").write_text("")
        with pytest.raises(UserError, match="job-0: is a file"):
            list(executor.records(jobs(1)))
    assert not ray.is_initialized()
    assert sorted(path.name for path in tmp_path.glob("job-*/*")) == ["record.json", "record.json"]


@needs_ray
@pytest.mark.slow
def test_a_ray_search_goes_on_when_a_node_dies(digits: Dataset, tmp_path: Path, alone: pytest.MonkeyPatch) -> None:
    """Two nodes of one CPU; the second is killed while both are at work."""
    import ray
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        second = cluster.add_node(**small)
        alone.setenv("RAY_ADDRESS", cluster.address)

        def kill_node() -> None:
            wait_for(lambda: len(at_work(tmp_path)) == 2, seconds=120)
            cluster.remove_node(second, allow_graceful=False)

        with meanwhile(kill_node):
            search(replace(LONG, rank_epochs=40, executor="ray", workers=2), digits, RunFolder(tmp_path), quiet())
        assert told(tmp_path) == [1, 2, 3]
        assert len(list(tmp_path.glob("*-model-*/record.json"))) == 3
        logs = [path.read_text() for path in tmp_path.glob("seed-0-model-*/log.txt")]
        assert sum("Resuming" in log for log in logs) == 1
        assert not ray.is_initialized()
    finally:
        ray.shutdown()
        cluster.shutdown()
