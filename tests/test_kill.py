"""The real thing: the command is killed at random moments and started again."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from binarch.runs import RunFolder

COMMON = ["--limit", "200", "--crop-padding", "1", "--flip", "none", "--batch-size", "32", "--device", "cpu"]
SEARCH = ["search", "--cells", "3", "--channels", "8", "--groups", "4", "--epochs", "6", "--keep", "4", *COMMON]
TRAIN = ["train", "--arch", "pdarts", "--cells", "3", "--channels", "8", "--groups", "4", "--epochs", "8", "8", *COMMON]


def start(arguments: list[str], out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "binarch", *arguments, "--out", str(out), "--resume", "auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SEARCH, TRAIN], ids=["search", "train"])
def test_ten_kills_change_nothing(arguments: list[str], tmp_path: Path) -> None:
    assert start(arguments, tmp_path / "whole").wait(300) == 0
    moments = random.Random(0)
    killed = 0
    while killed < 10:
        process = start(arguments, tmp_path / "killed")
        try:
            process.wait(moments.uniform(3, 6))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            killed += 1
            continue
        break
    assert killed == 10, "the run ended too early to be killed ten times"
    assert start(arguments, tmp_path / "killed").wait(300) == 0
    whole, other = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    assert (whole / "genotype.json").read_bytes() == (other / "genotype.json").read_bytes()
    if arguments is TRAIN:
        expected, found = (load_file(folder / "network.safetensors") for folder in (whole, other))
    else:
        expected, found = (folder.child("seed-0").load_checkpoint()["task"]["supernet"] for folder in (whole, other))
    assert all((expected[name] == found[name]).all() for name in expected)
    times = ("seconds", "images_per_second")
    rows = [[{k: v for k, v in row.items() if k not in times} for row in folder.metrics()] for folder in (whole, other)]
    assert rows[0] == rows[1]
