"""A wheel carries the networks: built where hatchling is installed, else read from the rules that it follows."""

import subprocess
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from binarch.networks import shipped

ROOT = Path(__file__).parents[1]
FILES = [file for network in shipped().values() for file in sorted(network.folder.iterdir())]


@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not installed")
def test_the_wheel_holds_every_file_of_every_network(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        for file in FILES:
            assert archive.read(str(file.relative_to(ROOT / "src"))) == file.read_bytes()


def test_no_rule_leaves_them_out() -> None:
    """Hatchling takes every file below ``packages`` but what is excluded, or ignored by git."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert rules == {"packages": ["src/binarch"]}
    assert len(FILES) == 3 * len(shipped())
    command = ["git", "check-ignore", "--no-index", *map(str, FILES)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode == 128:
        pytest.skip("not a git repository")
    assert done.stdout == ""
