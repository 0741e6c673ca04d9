"""Every command and the Python examples of the README, executed at toy size in an empty folder."""

import re
import shlex
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binarch import cli
from binarch.recipes import RECIPES

README = (Path(__file__).parents[1] / "README.md").read_text()
CIFAR10 = Path(__file__).parents[1].resolve() / "../shared/data/cifar10"
SMALL = ["--cells", "3", "--channels", "4", "--groups", "2", "--epochs", "1"]


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    binarch ")]
    return [line for line in lines if line]


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of seconds, a folder of photos, and somewhere to write."""
    for name, recipe in RECIPES.items():
        search = replace(
            recipe.search, data=replace(recipe.search.data, limit=60), cells=(3,), channels=4, groups=2, epochs=(1,),
            batch_size=16, seed=(0,), warmup_epochs=0,
        )  # fmt: skip
        train = replace(
            recipe.train, data=replace(recipe.train.data, limit=60), epochs=(1,), batch_size=16,
            network=replace(recipe.train.network, cells=3, channels=4, groups=2),
        )  # fmt: skip
        monkeypatch.setitem(RECIPES, name, replace(recipe, search=search, train=train))
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(8):
            pixels = noise.integers(0, 255, (40, 30 + index, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")


def test_the_readme_shows_every_verb() -> None:
    assert {shlex.split(command)[1] for command in commands()} == set(cli.VERBS)


def test_every_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands():
        arguments = shlex.split(command)[1:]
        if "uoft-cs/cifar100" in arguments:
            cli._parse(arguments[0], arguments[1:])  # needs the network: its flags are checked only
            continue
        if "path/to/cifar10" in arguments:
            if not CIFAR10.is_dir():
                continue
            arguments[arguments.index("path/to/cifar10")] = str(CIFAR10)
        if arguments[0] == "export" and find_spec("onnx") is None:
            continue  # an extra
        if arguments[0] == "bench":
            arguments += ["--seconds", "0"]
        if "vgg-small" in arguments:
            arguments += ["--width", "4", "--limit", "60"]
        if "--candidates" in arguments:
            arguments += ["--candidates", "3", "--population", "2", "--rank-epochs", "1"]
        if "reactnet-small" in arguments:
            arguments += ["--width", "4", "--epochs", "1"]
        if "--cells" in arguments and "photos" in arguments:
            arguments += [*SMALL, "--image-size", "8", "--batch-size", "4"]
        cli.main(arguments)
        capsys.readouterr()
    for left in (
        "runs/demo/report.html",
        "runs/search/genotype.json",
        "runs/train/report.html",
        "cells.svg",
        "net.safetensors",
    ):
        assert Path(left).is_file(), left


def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    schemes, example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(schemes, "README.md", "exec"), {})
    assert capsys.readouterr().out == "('3',) ('0', '7')\n"
    exec(compile(example, "README.md", "exec"), {})
    accuracy, size = capsys.readouterr().out.split()
    assert 0 <= float(accuracy) <= 1
    assert int(size) > 0
