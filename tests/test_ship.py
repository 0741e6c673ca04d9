"""tools/ship.py: from a run folder to a network of the package, or one line that says why not."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from binarch import cli
from binarch.networks import Shipped, model_card
from binarch.runtime import Program

SHAPE = ["--cells", "3", "--channels", "4", "--groups", "2"]
TOOL = Path(__file__).parents[1] / "tools" / "ship.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ship", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ship"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of a second: searched cells on digits, in two stages."""
    folder = tmp_path_factory.mktemp("run")
    tiny = [*SHAPE, "--epochs", "1", "--limit", "60", "--batch-size", "16"]
    cli.main(["train", "--arch", "pdarts", "--recipe", "digits", "--out", str(folder), *tiny])
    return folder


def refused(tool: ModuleType, capsys: pytest.CaptureFixture[str], into: Path, *arguments: str) -> str:
    """Ship what cannot be shipped; nothing is written; the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        tool.main([*arguments, "--into", str(into)])
    assert stop.value.code == 2
    assert not into.exists()
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_cell_network_is_shipped_whole(
    tool: ModuleType, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool.main([str(run), "tiny-cells", "--what", "A toy", "--into", str(tmp_path)])
    assert "tiny-cells" in capsys.readouterr().out
    found = Shipped(tmp_path / "tiny-cells")
    assert sorted(file.name for file in found.folder.iterdir()) == ["README.md", "identity.json", "network.safetensors"]
    assert found.program.card["genotype"] == json.loads((run / "genotype.json").read_text())
    assert found.identity["config"]["epochs"] == [1]
    assert "genotype" not in found.identity["config"], "it is in the file's card"
    page = model_card(found)
    assert page == (found.folder / "README.md").read_text()
    told = "Epochs: 1 with quantized activations, then 1 with quantized activations and weights; seed 0"
    assert told in " ".join(page.split())
    assert found.summary()["test_accuracy"] == json.loads((run / "result.json").read_text())["test_accuracy"]


def test_whom_a_training_asked_is_told_by_hash_not_by_place(
    tool: ModuleType, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--teacher", str(run), "--proxy", str(run), "--keep", "0.5", "--scheme", "standardised"]
    tiny = [
        *SHAPE,
        "--epochs",
        "1",
        "--limit",
        "60",
        "--batch-size",
        "16",
        "--binarize",
        "both",
        "--learning-rate",
        "1e-3",
    ]
    recipe = ["--arch", "pdarts", "--recipe", "digits", "--no-output-scale"]
    cli.main(["train", *recipe, "--out", str(tmp_path / "run"), *tiny, *asked])
    tool.main([str(tmp_path / "run"), "taught", "--what", "A toy", "--into", str(tmp_path / "networks")])
    found = Shipped(tmp_path / "networks" / "taught")
    digest = hashlib.sha256((run / "network.safetensors").read_bytes()).hexdigest()
    assert found.identity["taught_by"] == found.identity["config"]["teacher"] == digest
    assert found.identity["filtered_by"] == found.identity["config"]["proxy"] == digest
    assert str(run) not in (found.folder / "identity.json").read_text()
    assert found.program.card["scheme"] == "bats space, standardised: binary activations and weights"
    assert (found.program.card["network"]["scheme"], found.program.card["network"]["stem"]) == ("standardised", "cifar")
    page = " ".join((found.folder / "README.md").read_text().split())
    assert "Of the rest, 50% were learned from: those an earlier network found hardest." in page
    assert "A teacher's answers were 50% of the loss. Epochs: 1 with quantized activations and weights" in page


def test_what_cannot_be_shipped_is_one_line(
    tool: ModuleType, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    into, what = tmp_path / "networks", ("--what", "A toy")
    assert "no such file" in refused(tool, capsys, into, str(tmp_path / "nothing"), "toy", *what)
    for name in ("Toy", "a toy", "../toy", "vgg-small"):
        assert f"NAME: {name!r}" in refused(tool, capsys, into, str(run), name, *what)
    assert "full stop" in refused(tool, capsys, into, str(run), "toy", "--what", "A toy.")
    small = len(Program.encode(tool.pack_run(tool.RunFolder(run)))) - 1
    monkeypatch.setattr(tool, "LARGEST_FILE", small)
    assert f"at most {small:,}" in refused(tool, capsys, into, str(run), "toy", *what)


def test_the_accuracy_is_that_of_the_file_and_near_the_training_s(
    tool: ModuleType, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "run"
    other.mkdir()
    for file in run.iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    result = json.loads((run / "result.json").read_text())
    into = tmp_path / "networks"
    near = {**result, "test_accuracy": result["test_accuracy"] + 0.003}  # one image of 360, on another device
    (other / "result.json").write_text(json.dumps(near))
    tool.main([str(other), "near", "--what", "A toy", "--into", str(tmp_path)])
    found = Shipped(tmp_path / "near")
    assert found.program.card["test_accuracy"] == result["test_accuracy"]
    assert found.identity["accuracy_in_training"] == near["test_accuracy"]
    (other / "result.json").write_text(json.dumps({**result, "test_accuracy": 0.999}))
    assert "its training says 99.90%" in refused(tool, capsys, into, str(other), "toy", "--what", "A toy")
    del result["test_accuracy"]
    (other / "result.json").write_text(json.dumps(result))
    assert "no test accuracy" in refused(tool, capsys, into, str(other), "toy", "--what", "A toy")
