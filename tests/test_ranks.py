"""Two processes share a run: the steps of one process, the same bits on both, the same bits after Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from binarch import cli
from binarch.errors import UserError
from binarch.ranks import ALONE, Ranks
from binarch.runs import RunFolder

SCRIPT = Path(__file__).with_name("two_ranks.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
#: The settings of the script.
TINY = ["--limit", "70", "--cells", "3", "--channels", "4", "--groups", "2", "--batch-size", "17",
        "--crop-padding", "1", "--flip", "none", "--device", "cpu", "--precision", "32"]  # fmt: skip
SEARCH = ["-m", "binarch", "search", *TINY, "--epochs", "2", "--alpha-learning-rate", "0.05"]
TRAIN = ["-m", "binarch", "train", "--arch", "pdarts", *TINY, "--epochs", "1", "--drop-path", "0.3"]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*TORCHRUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    output, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint
    return output, complaint


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the script, run once by two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    finish(start([str(SCRIPT), str(folder)]))
    return folder


@pytest.fixture(scope="module")
def both(out: Path) -> list[dict[str, Any]]:
    """What each rank saw."""
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


@given(size=st.integers(1, 40), world=st.integers(1, 7))
def test_parts_make_up_the_batch(size: int, world: int) -> None:
    batch = torch.arange(size)
    ranks = [Ranks(world, rank) for rank in range(world)]
    parts = [each.part(batch) for each in ranks]
    assert torch.equal(torch.cat(parts), batch)
    assert [len(part) / size for part in parts] == [each.share(size) for each in ranks]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_gets_back_what_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3)
    assert ALONE.part(x) is x
    assert ALONE.sum([x])[0] is x
    assert ALONE.share(7) == 1.0
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.told(lambda: 5) == 5
    assert ALONE.agree([x])
    ALONE.check_batch(1)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with Ranks.started().joined() as ranks:
        assert ranks == ALONE
        assert not torch.distributed.is_initialized()


def test_what_ranks_tell_each_other(both: list[dict[str, Any]]) -> None:
    first, second = (told["class"] for told in both)
    assert first["sum"] == second["sum"] == [[[3.0], [3.0]], 10.0]
    assert first["sum_"] == second["sum_"] == [1.5, 10.0]
    assert first["any"] == second["any"] == [True, False, True]
    assert first["told"] == second["told"] == 0
    assert first["complaint"] == second["complaint"] == "asked: rank 0"
    assert first["agree"] == second["agree"] == [True, False]


def test_the_first_rank_writes_and_reads_for_all(both: list[dict[str, Any]]) -> None:
    first, second = (told["class"] for told in both)
    assert first["read"] == second["read"] == {"rank": 0}
    assert first["claimed twice"] == second["claimed twice"]
    assert "--resume auto" in first["claimed twice"]
    assert (first["wrote"], second["wrote"]) == (True, False)


@pytest.mark.parametrize("what", ["first order", "second order", "repairs", "training"])
def test_without_batch_statistics_the_steps_are_those_of_one_process(what: str, both: list[dict[str, Any]]) -> None:
    first, second = (told["steps"][what] for told in both)
    assert first["ranks equal"] == 1
    assert first["moved"] == second["moved"] > 1e-4
    assert first["from one process"] < 1e-12


@pytest.mark.parametrize("what", ["bats", "second"])
def test_both_ranks_find_the_same(what: str, both: list[dict[str, Any]]) -> None:
    assert both[0][what] == both[1][what]
    assert both[0][what]["rows"]


def test_a_search_stopped_on_one_rank_ends_as_if_it_had_not_been(both: list[dict[str, Any]]) -> None:
    stopped = dict(both[0]["bats stopped"])
    assert stopped == both[1]["bats stopped"]
    assert (stopped.pop("stopped"), stopped.pop("position")) == (True, [1, 1])
    assert stopped == both[0]["bats"]


def test_candidates_are_scored_alike(both: list[dict[str, Any]], out: Path) -> None:
    assert both[0]["random"] == both[1]["random"] == RunFolder(out / "random").read_json("genotype.json")


def test_the_pieces_of_a_recipe_are_shared(both: list[dict[str, Any]]) -> None:
    assert both[0]["pieces"] == both[1]["pieces"]
    for told in both:
        assert told["statistics"]["ranks equal"] == 1
        assert told["statistics"]["from one process"] < 1e-6


def test_what_cannot_be_shared_says_so(both: list[dict[str, Any]]) -> None:
    for told in both:
        assert told["mine"].startswith("binarize: mine cannot be shared by 2 ranks")
        assert told["class"]["small batch"].startswith("batch_size: 3 images are too few for 2 ranks")


def test_other_verbs_refuse_ranks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as stop:
        cli.main(["list", "spaces"])
    assert stop.value.code == 2
    assert "list: cannot be shared by 2 ranks" in capsys.readouterr().err


def test_the_command_trains_as_the_stopped_one_did(both: list[dict[str, Any]], out: Path, tmp_path: Path) -> None:
    output, complaint = finish(start([*TRAIN, "--out", str(tmp_path / "t"), "--json"]))
    assert [told["train stopped"] for told in both] == [True, True]
    assert both[0]["train"] == both[1]["train"]
    assert json.loads(output)["test_loss"] == both[0]["train"]["test_loss"]
    assert complaint.count("epoch 1/1") == 2  # a line for each of two stages, from one rank
    network = "network.safetensors"
    assert (tmp_path / "t" / network).read_bytes() == (out / "train" / network).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_reaches_all_ranks_of_the_command_and_so_does_torchrun_s_end(
    sent: signal.Signals, both: list[dict[str, Any]], out: Path, tmp_path: Path
) -> None:
    command = [*SEARCH, "--out", str(tmp_path), "--resume", "auto"]
    process = start(command)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 1/2" in line:
            process.send_signal(sent)
            break
    _, complaint = process.communicate(timeout=600)  # the ranks hold the pipe: it ends with them
    assert process.returncode != 0
    assert complaint.count("the same command with --resume auto continues") == 1
    assert not RunFolder(tmp_path).has("result.json")
    finish(start(command))
    expected, found = (
        RunFolder(folder).child("seed-0").load_checkpoint()["task"] for folder in (out / "bats", tmp_path)
    )
    assert RunFolder(tmp_path).read_json("genotype.json") == both[0]["bats"]["genotype"]
    assert all(torch.equal(value, found["supernet"][name]) for name, value in expected["supernet"].items())


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.started() == ALONE
    monkeypatch.setenv("RANK", "1")
    assert Ranks.started() == ALONE, "a rank in no world is alone: it must write what it learned"
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Ranks.started() == Ranks(3, 1)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match="RANK: 3 is not possible with WORLD_SIZE=3"):
        Ranks.started()
