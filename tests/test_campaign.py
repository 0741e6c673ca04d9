"""The campaign in slices: what is stopped or killed ends with the same bits; what fails stops nothing else."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from campaign import Slice, scale_of, until
from jobs import LENGTHS, Job, campaign
from pieces import Pieces
from plan import Plan

from binarch import cli
from binarch.errors import UserError
from binarch.recipes import RECIPES
from binarch.reproduce import ROWS, SYSTEMS
from binarch.search.evaluation import candidate_binarize, candidate_network

TOOLS = Path(__file__).parents[1] / "tools"
#: Stands for binarch where only the order of jobs counts: "WORD FOLDER"; a number is a result.
STAND_IN = """
import json, os, pathlib, signal, sys
word, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if word == "refuse":
    sys.exit("some words before\\nbinarch: cells: 2 is too few" + f" in {folder.parent}")
if word == "stop":
    sys.exit(130)
folder.mkdir(parents=True, exist_ok=True)
config = {"verb": "train", "binarize": ["both"], "epochs": [4], "seed": 7}
(folder / "config.json").write_text(json.dumps(config))
rows = [{"train_accuracy": 0.5, "seconds": 30}] * (2 if word == "begin" else 4)
(folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
(folder / "last.ckpt").write_bytes(b"state" * 20_000)
if word == "begin":
    sys.exit(130)
if word == "wait":  # the first time for Ctrl-C
    begun = folder / f"begun{os.environ.get('RANK', '')}"
    again = begun.exists()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    begun.touch()
    if not again:
        signal.pause()
    word = "0.9"
if word == "with":
    folder.joinpath("read.txt").write_text(sys.argv[3])
    word = "0.9"
if word != "nothing":
    (folder / "result.json").write_text(json.dumps({"test_accuracy": float(word)}))
"""
TOY = (
    "train --arch vgg-small --width 4 --scheme bnn --binarize both --epochs 20 --limit 60 --batch-size 16 "
    "--crop-padding 1 --flip none --device cpu --resume auto"
)


def toy(name: str, word: str, *more: str, **about: object) -> Job:
    return Job(name, f"{name} is done", (word, f"{{out}}/{name}", *more), name, images="digits", **about)  # type: ignore[arg-type]


def real(*, folder: str = "toy") -> Job:
    return Job("toy", "a toy", (*TOY.split(), "--out", f"{{out}}/{folder}"), folder, images="digits")


@pytest.fixture
def stand_in(tmp_path: Path) -> list[str]:
    (tmp_path / "verbs.py").write_text(STAND_IN)
    return [sys.executable, str(tmp_path / "verbs.py")]


def slice_of(
    jobs: list[Job], out: Path, binarch: list[str], stop: Callable[[], bool] = lambda: False, largest: int = 40_000
) -> Slice:
    return Slice(jobs, out, images={"digits": Path("digits")}, stop=stop, binarch=binarch, largest=largest)


def page(out: Path) -> dict[str, list[str]]:
    """The table of campaign.md: a row of cells for each job."""
    rows = [line.split("|")[1:-1] for line in (out / "campaign.md").read_text().splitlines() if line.startswith("| ")]
    assert len({tuple(map(len, row)) for row in rows}) == 1, "the table is not aligned"
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[1:]}


def test_a_failing_job_does_not_stop_the_others(tmp_path: Path, stand_in: list[str]) -> None:
    jobs = [toy("bad", "refuse"), toy("empty", "nothing"), toy("good", "0.75")]
    slice_of(jobs, tmp_path / "out", stand_in).work()
    table = page(tmp_path / "out")
    assert (table["bad"][0], table["empty"][0], table["good"][0]) == ("failed", "failed, 4 of 4 epochs", "done")
    told = (tmp_path / "out" / "campaign.md").read_text()
    assert "- bad failed when last tried: binarch: cells: 2 is too few in {out} (exit 1)" in told
    assert "- empty failed when last tried: ended without empty/result.json" in told
    slice_of(
        [replace(jobs[0], arguments=jobs[2].arguments[:1] + jobs[0].arguments[1:])], tmp_path / "out", stand_in
    ).work()
    assert page(tmp_path / "out")["bad"][0] == "done", "a failed job is tried again"


def test_needs_are_honoured_and_the_best_of_them_is_handed_on(tmp_path: Path, stand_in: list[str]) -> None:
    out = tmp_path / "out"
    jobs = [
        toy("last", "with", "{best}", needs=("a", "b", "c")),
        toy("never", "0.5", needs=("bad",)),
        *(toy(name, word) for name, word in (("a", "0.3"), ("b", "0.8"), ("c", "0.4"), ("bad", "refuse"))),
        replace(toy("elsewhere", "0.5"), images="cifar100"),
    ]
    slice_of(jobs, out, stand_in).work()
    assert (out / "last" / "read.txt").read_text() == str(out / "b")
    (line,) = map(json.loads, (out / "campaign.jsonl").read_text().splitlines())
    assert [entry["job"] for entry in line["jobs"]] == ["a", "b", "c", "last", "bad"]
    table = page(out)
    assert table["never"][0] == "waiting for bad"
    assert table["elsewhere"][0] == "waiting for the images of cifar100"
    assert table["last"][:3] == ["done", "test 90.00 %", "-"]


def test_the_plan_tells_every_state(tmp_path: Path, stand_in: list[str]) -> None:
    out = tmp_path / "out"
    jobs = [toy("begun", "begin"), toy("stopped", "stop"), toy("done", "0.9612", published=96.1), toy("later", "0.5")]
    slice_of(jobs, out, stand_in, stop=(out / "done" / "result.json").exists).work()
    table = page(out)
    assert table["begun"][:5] == ["begun, 2 of 4 epochs", "train 50.00 %", "-", "60 s", "7"]
    assert table["stopped"][:5] == ["ready", "-", "-", "-", "-"]
    assert table["done"][:5] == ["done", "test 96.12 %", "96.10 %", "120 s", "7"]
    machine, _, date = table["done"][5].rpartition(", ")
    assert machine
    assert len(date) == len("2026-01-31")
    told = (out / "campaign.md").read_text()
    assert "- **begun**: begun is done. `binarch begin {out}/begun`" in told
    assert "1 of 4 jobs are done. Next: begun, stopped, later." in told


def test_the_end_of_a_slice_stops_a_job_and_the_next_slice_continues_it(tmp_path: Path, stand_in: list[str]) -> None:
    jobs, out = [toy("long", "wait"), toy("after", "0.5")], tmp_path / "out"
    slice_of(jobs, out, stand_in, stop=(out / "long" / "begun").exists).work()
    assert [page(out)[name][0] for name in ("long", "after")] == ["begun, 4 of 4 epochs", "ready"]
    assert not (out / "long" / "last.ckpt").exists(), "too large to be carried"
    slice_of(jobs, out, stand_in).work()
    assert [page(out)[name][0] for name in ("long", "after")] == ["done", "done"]
    assert len((out / "campaign.jsonl").read_text().splitlines()) == 2


def test_the_curve_is_drawn_when_its_points_are_there(tmp_path: Path, stand_in: list[str]) -> None:
    jobs = [toy(f"final-{n}", f"0.{n + 80}", epochs_a_stage=n, published=96.1) for n in (1, 3, 10)]
    slice_of(jobs[:2], tmp_path / "out", stand_in).work()
    Plan(jobs, tmp_path / "out", {"digits"}).write()
    assert "campaign.svg" not in (tmp_path / "out" / "campaign.md").read_text()
    slice_of(jobs, tmp_path / "out", stand_in).work()
    assert "campaign.svg" in (tmp_path / "out" / "campaign.md").read_text()
    assert (tmp_path / "out" / "campaign.svg").read_text().count("<svg") == 1


def test_only_runs_that_go_on_keep_their_checkpoints(tmp_path: Path, stand_in: list[str]) -> None:
    slice_of([toy("begun", "begin"), toy("done", "0.5")], tmp_path / "out", stand_in).work()
    assert sorted(path.name for path in (tmp_path / "out" / "done").glob("last*")) == []
    assert len(list((tmp_path / "out" / "begun").glob("last.ckpt.*-of-03"))) == 3
    assert all(path.stat().st_size <= 40_000 for path in (tmp_path / "out").rglob("last*-of-*"))


def test_a_missing_piece_fails_one_job_only(tmp_path: Path, stand_in: list[str]) -> None:
    jobs = [toy("begun", "begin"), toy("good", "0.75")]
    slice_of(jobs[:1], tmp_path / "out", stand_in).work()
    next((tmp_path / "out" / "begun").glob("last.ckpt.*.00-of-03")).unlink()
    slice_of(jobs, tmp_path / "out", stand_in).work()
    assert page(tmp_path / "out")["begun"][0].startswith("failed")
    assert "00-of-03: is missing" in (tmp_path / "out" / "campaign.md").read_text()
    assert page(tmp_path / "out")["good"][0] == "done"


def test_a_teacher_whose_weights_did_not_travel_is_waited_for(tmp_path: Path, stand_in: list[str]) -> None:
    out = tmp_path / "out"
    pupil = toy("pupil", "with", "{best}", "--teacher", needs=("master",))
    slice_of([toy("master", "0.9"), pupil], out, stand_in).work()
    assert page(out)["pupil"][0] == "waiting for the weights in master"
    (out / "master" / "network.safetensors").write_bytes(b"weights" * 10_000)  # in pieces after the slice
    Pieces(out, 40_000).cut(keep=False)
    slice_of([toy("master", "0.9"), pupil], out, stand_in).work()
    assert page(out)["pupil"][0] == "done"


def test_ranks_share_a_job_and_its_end(tmp_path: Path, stand_in: list[str]) -> None:
    job, out = toy("long", "wait", ranks=2), tmp_path / "out"
    both = [out / "long" / f"begun{rank}" for rank in (0, 1)]
    slice_of([job], out, stand_in, stop=lambda: all(file.exists() for file in both)).work()
    assert page(out)["long"][0] == "begun, 4 of 4 epochs", "torchrun ends with 1 when its ranks were stopped"
    slice_of([job], out, stand_in).work()
    assert page(out)["long"][0] == "done"
    assert "`torchrun --nproc-per-node 2 -m binarch wait {out}/long`" in (out / "campaign.md").read_text()


def test_a_folder_keeps_its_scale(tmp_path: Path) -> None:
    assert scale_of(tmp_path / "small", None) == "paper", "not asked for, so not kept"
    assert scale_of(tmp_path / "small", "cpu") == "cpu"
    assert scale_of(tmp_path / "small", None) == "cpu"
    with pytest.raises(UserError, match=r"--scale: .*small is a campaign of scale cpu, not paper"):
        scale_of(tmp_path / "small", "paper")


def test_two_slices_cannot_share_a_folder(tmp_path: Path, stand_in: list[str]) -> None:
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another slice"):
            slice_of([toy("a", "0.5")], tmp_path / "out", stand_in).work()
    slice_of([toy("a", "0.5")], tmp_path / "out", stand_in).work()
    assert page(tmp_path / "out")["a"][0] == "done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_slice_as_its_time_does(number: int) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop = until(60)
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        assert until(0)()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def rows(out: Path) -> int:
    path = out / "toy" / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def whole(folder: Path) -> bytes:
    """The network of a training that nobody stopped."""
    cli.main([*TOY.split(), "--out", str(folder)])
    return (folder / "network.safetensors").read_bytes()


@pytest.mark.slow
def test_two_slices_equal_one_long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one elsewhere, with what was carried there: no file larger than a limit."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    here, there = tmp_path / "here", tmp_path / "there"
    images = {"digits": Path("digits")}
    Slice([real()], here, images=images, stop=lambda: rows(here) >= 1, save_seconds=0, largest=40_000).work()
    assert page(here)["toy"][0].startswith("begun, ")
    assert len(list((here / "toy").glob("last.ckpt.*-of-*"))) > 1
    assert all(path.stat().st_size <= 40_000 for path in here.rglob("*") if path.suffix != ".txt")
    shutil.move(here, there)
    Slice([real()], there, images=images, stop=lambda: False).work()
    assert page(there)["toy"][0] == "done"
    assert (there / "toy" / "network.safetensors").read_bytes() == whole(tmp_path / "whole")
    assert len((there / "campaign.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_killed_slice_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    out = tmp_path / "out"
    script = (
        f"import sys; sys.path[:0] = {[str(TOOLS), str(Path(__file__).parent)]!r}\n"
        "from pathlib import Path\nfrom campaign import Slice\nfrom test_campaign import real\n"
        f"Slice([real()], Path({str(out)!r}), images={{'digits': Path('digits')}}, stop=lambda: False, save_seconds=0,"
        " largest=40_000).work()\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    told = next(line for line in driver.stdout if "begun" in line and "begun, 0 " not in line)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert " of 20 epochs" in told
    again = Slice([real()], out, images={"digits": Path("digits")}, stop=lambda: False)
    with pytest.raises(UserError, match="a job that one left behind"):  # it trains on, alone
        again.work()
    os.kill(int((out / ".lock").read_text()), signal.SIGKILL)
    with open(out / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # when the job is gone
    assert rows(out) < 20
    (out / "toy" / "last.ckpt").unlink()  # large files do not leave the machine
    again.work()
    assert (out / "toy" / "network.safetensors").read_bytes() == whole(tmp_path / "whole")


def parsed(job: Job) -> object:
    arguments = [argument.format(out="out", data="images", best="out/found") for argument in job.arguments]
    return cli._parse(arguments[0], arguments[1:])


@pytest.mark.parametrize("job", [*campaign("paper"), *campaign("cpu")], ids=lambda job: job.name)
def test_every_job_is_a_command_of_binarch(job: Job) -> None:
    args = parsed(job)
    out = args.output.out if hasattr(args, "output") else args.out  # type: ignore[attr-defined]
    assert Path(job.folder).is_relative_to(Path(out).relative_to("out")), "the result is where the command writes"
    assert ("{best}" in job.arguments) == bool(job.needs)
    queue = campaign("cpu" if job in campaign("cpu") else "paper")
    before = [other.name for other in queue[: queue.index(job)]]
    assert set(job.needs) <= set(before), "what it needs comes before"


def test_the_campaign_holds_what_was_published() -> None:
    jobs = {job.name: job for job in campaign()}
    assert len(jobs) == len(campaign())
    lines = [job.folder for job in jobs.values() if job.folder.startswith("table1/")]
    assert sorted(lines) == sorted(f"table1/{row.name}-{recipe}-0" for row in ROWS.values() for recipe in row.recipes)
    assert [job.epochs_a_stage for job in jobs.values() if job.epochs_a_stage] == list(LENGTHS)
    recipe = RECIPES["cifar10"]
    for length in LENGTHS:
        config = parsed(jobs[f"final-{length}"]).config  # type: ignore[attr-defined]
        assert replace(config, epochs=recipe.train.epochs, data=recipe.train.data) == recipe.train
    system = SYSTEMS["bats-3.5m"]
    train = parsed(jobs["real-3.5m"]).config  # type: ignore[attr-defined]
    assert replace(train, data=system.real.train.data) == system.real.train
    search = parsed(jobs["real"]).config  # type: ignore[attr-defined]
    assert replace(search, data=system.real.search.data, seed=system.real.search.seed) == system.real.search


def test_short_trainings_are_those_that_rank_a_search() -> None:
    search = RECIPES["cifar10"].search
    for job in campaign():
        if job.name.startswith("short-"):
            config = parsed(job).config  # type: ignore[attr-defined]
            ranking = (search.rank_epochs,), search.batch_size, (replace(search, strategy="random").binarization,)
            assert config.network == candidate_network(search)
            assert config.binarize == (candidate_binarize(search),)
            assert (config.epochs, config.batch_size, config.binarize) == ranking
            assert config.validation == 0.5
