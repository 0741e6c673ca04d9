"""The verbs as a user meets them: results, one-line errors, exit codes, help on one screen."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from binarch import cli
from binarch.models import MODELS
from binarch.nn import SCHEMES
from binarch.recipes import RECIPES
from binarch.runs import RunFolder
from binarch.search import STRATEGIES
from binarch.spaces import PUBLISHED, SPACES, Genotype
from binarch.training.config import Optimizer, StageKind
from binarch.training.loss import Loss

CIFAR10 = Path(__file__).parents[1] / "../shared/data/cifar10"
SHAPE = ["--cells", "3", "--channels", "4", "--groups", "2"]
TINY_TRAIN = [*SHAPE, "--epochs", "1", "--limit", "60", "--batch-size", "16"]
TINY_SEARCH = [*TINY_TRAIN, "--warmup-epochs", "0"]


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """Run a command that must fail; return its single line."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def result(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    cli.main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arch", "space", "params", "macs"),
    [
        ("darts-v1", "darts", 3_169_414, 500_981_760),
        ("darts-v2", "darts", 3_349_342, 528_353_280),
        ("pdarts", "darts", 3_433_798, 532_168_704),
        ("darts-v2", "bats", 2_153_566, 334_761_984),
        ("pdarts", "bats", 2_595_502, 389_173_248),
    ],
)
def test_count_gives_the_published_numbers(
    arch: str, space: str, params: int, macs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["--channels", "36", "--cells", "20", "--groups", "12", "--classes", "10"]
    found = result(["count", "--arch", arch, "--space", space, *shape], capsys)
    assert (found["params"], found["macs"]) == (params, macs)
    assert found["binary_macs"] + found["float_macs"] == macs
    assert found["float_macs"] == (2_985_984 if space == "bats" else macs)
    real = params - found["binary_params"]
    beside = found["bytes_packed"] - found["binary_params"] // 8 - 4 * real  # a factor per filter, and fresh bytes
    assert 50_000 < beside < 60_000 if space == "bats" else beside == 0


def test_count_knows_the_published_searched_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert result(["count", "--arch", "nasnet-a", "--binarize", "none"], capsys)["params"] == 3_346_538
    half = result(["count", "--arch", "amoebanet-a", "--width", "16", "--where", "inner"], capsys)
    assert 0 < half["binary_params"] < half["params"]


@pytest.mark.parametrize("what", ["archs", "models", "spaces", "strategies", "recipes", "datasets"])
def test_list_names_everything_with_a_line_each(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = result(["list", what], capsys)
    assert all(text and "\n" not in text for text in names.values())
    expected = {"archs": PUBLISHED, "models": MODELS, "spaces": SPACES, "strategies": STRATEGIES, "recipes": RECIPES}
    if what in expected:
        assert list(names) == list(expected[what])
    else:
        assert {"digits", "cifar10", "cifar100"} <= set(names)


def test_list_schemes_tells_bits_and_what_is_learned(capsys: pytest.CaptureFixture[str]) -> None:
    found = result(["list", "schemes"], capsys)
    assert list(found) == list(SCHEMES)
    for name, scheme in SCHEMES.items():
        assert (found[name]["weights"], found[name]["activations"]) == scheme.bits
        assert found[name]["learns"] == scheme.learns
        assert found[name]["method"] == scheme.title
    cli.main(["list", "schemes"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *SCHEMES]
    assert all(scheme.title in line for line, scheme in zip(lines[1:], SCHEMES.values(), strict=True))


def test_count_of_a_network_of_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert result(["count", "--arch", "resnet20", "--binarize", "none"], capsys)["params"] == 269_722
    found = result(["count", "--arch", "resnet20", "--scheme", "hwgq"], capsys)
    assert found["binary_params"] == 267_264
    assert found["binary_macs"] == 0  # activations of two bits
    counted = result(["count", "--arch", "vgg-small", "--scheme", "xnor-net", "--where", "inner"], capsys)
    assert counted["binary_params"] == 4_571_136
    assert counted["float_macs"] == 3_456 * 1024


def test_count_layer_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["count", "--arch", "resnet20", "--scheme", "hwgq", "--width", "8", "--image-size", "16", "--layers"]
    found = result(arguments, capsys)
    assert found["packable"] is True
    assert found["total_bytes"] == found["header_bytes"] + sum(row["bytes"] for row in found["layers"])
    quantized = [row for row in found["layers"] if row["kind"] == "QuantConv2d"]
    assert len(quantized) == 18
    assert {(row["input_bits"], row["weight_bits"]) for row in quantized} == {(2, 1)}
    cli.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {row["name"] for row in found["layers"]}
    assert lines[-1].startswith("total")
    assert lines[-1].endswith(f"{found['total_bytes']:,}")


def test_a_network_of_the_catalogue_from_training_to_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "t")
    arguments = ["train", "--arch", "vgg-small", "--scheme", "xnor-net", "--width", "8", "--binarize", "both",
                 "--image-size", "8", "--epochs", "2", "--limit", "100", "--batch-size", "20"]  # fmt: skip
    trained = result([*arguments, "--out", out], capsys)
    assert Path(trained["report"]).stat().st_size > 5000
    assert not (tmp_path / "t" / "cells.svg").exists()
    scored = result(["evaluate", out], capsys)
    assert scored["test_accuracy"] == trained["test_accuracy"]
    packed = result(["pack", out, "--out", str(tmp_path / "net.bin")], capsys)
    assert packed["bytes"] == (tmp_path / "net.bin").stat().st_size < packed["bytes_as_float32"]
    Image.new("L", (12, 9), 130).save(tmp_path / "one.png")
    told = result(["predict", packed["file"], str(tmp_path / "one.png"), "--top", "3"], capsys)
    shares = [best["probability"] for best in told["predictions"][0]["top"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert "xnor" in fails(["train", "--arch", "vgg-small", "--scheme", "xnor", "--out", str(tmp_path / "x")], capsys)
    said = fails(["train", "--arch", "vgg-big", "--out", str(tmp_path / "x")], capsys)
    assert all(name in said for name in MODELS)
    said = fails(["train", "--arch", "vgg-small", "--scheme", "bnn", "--out", str(tmp_path / "x")], capsys)
    assert "--binarize both" in said  # the default is two stages
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_fits_one_screen(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 140
    cli.main(["--help"])
    assert f"binarch {verb}" in capsys.readouterr().out


def test_help_shows_the_recipe_s_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["search", "--recipe", "cifar10", "--help"])
    text = capsys.readouterr().out
    assert "[cifar10]" in text
    assert "[0 1 2 3]" in text


def test_from_search_to_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = result(["search", "--out", str(tmp_path / "s"), "--recipe", "digits", *TINY_SEARCH], capsys)
    Genotype.load(Path(found["genotype"]))
    for file in ("report", "drawing"):
        assert Path(found[file]).stat().st_size > 5000
    trained = result(
        ["train", "--arch", str(tmp_path / "s"), "--out", str(tmp_path / "t"), "--recipe", "digits", *TINY_TRAIN],
        capsys,
    )
    assert Path(trained["report"]).is_file()
    scored = result(["evaluate", str(tmp_path / "t")], capsys)
    assert scored["test_accuracy"] == pytest.approx(trained["test_accuracy"])
    assert scored["images"] == 360
    cli.main(["draw", str(tmp_path / "t"), "--out", str(tmp_path / "cells.png"), "--space", "bats"])
    with Image.open(tmp_path / "cells.png") as picture:
        assert picture.width > 300
    cli.main(["train", "--arch", str(tmp_path / "s"), "--out", str(tmp_path / "t"), "--recipe", "digits", *TINY_TRAIN,
              "--resume", "auto"])  # fmt: skip
    assert "bytes packed" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_runs_shrunk(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = RECIPES[name]
    if recipe.search.data.dataset != "digits" and not CIFAR10.is_dir():
        pytest.skip(f"no CIFAR-10 at {CIFAR10}")
    data = [] if recipe.search.data.dataset == "digits" else ["--data", str(CIFAR10), "--image-size", "8"]
    small = [*TINY_SEARCH, *data, "--seed", "0"]
    result(["search", "--out", str(tmp_path / "s"), "--recipe", name, *small], capsys)
    auxiliary = ["--no-auxiliary"]
    small = [*TINY_TRAIN, *data, *auxiliary]
    trained = result(
        ["train", "--arch", str(tmp_path / "s"), "--out", str(tmp_path / "t"), "--recipe", name, *small], capsys
    )
    assert 0 <= trained["test_accuracy"] <= 1
    config = RunFolder(tmp_path / "t").read_json("config.json")
    assert config["optimizer"] == recipe.train.optimizer
    assert config["cutout"] == recipe.train.cutout


def test_mistakes_print_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert "serch" in fails(["serch"], capsys)
    assert "cifar11" in fails(["search", "--recipe", "cifar11", *out], capsys)
    assert "neither" in fails(["train", "--arch", "nothing", *out], capsys)
    assert "nowhere" in fails(["search", "--data", str(tmp_path / "nowhere"), *out], capsys)
    assert "channels" in fails(["search", "--channels", "10", *out], capsys)
    assert "--space bats" in fails(["search", "--space", "darts", "--binarize", "both", *out], capsys)
    assert "warmup_epochs" in fails(["search", "--recipe", "digits", "--epochs", "2", *out], capsys)
    assert "crop_padding" in fails(["train", "--arch", "pdarts", "--crop-padding", "-1", *out], capsys)
    assert "image_size" in fails(["count", "--arch", "pdarts", "--image-size", "0"], capsys)
    assert "temperature" in fails(["search", "--temperature", "0", *out], capsys)
    assert ".svg" in fails(["draw", "pdarts", "--out", str(tmp_path / "cells.jpg")], capsys)
    assert "config.json" in fails(["evaluate", str(tmp_path)], capsys)
    (tmp_path / "genotype.json").write_text('{"schema": 1}')
    assert "normal" in fails(["count", "--arch", str(tmp_path / "genotype.json")], capsys)
    assert not (tmp_path / "run").exists(), "a mistake must not leave a folder behind"


@pytest.mark.parametrize(
    "verb",
    [
        ["train", "--arch", "pdarts", *TINY_TRAIN],
        ["search", "--channels", "4", "--groups", "2", "--cells", "3", "--limit", "60"],
        ["demo"],
        ["draw", "pdarts"],
    ],
    ids=lambda verb: verb[0],
)
def test_an_out_that_cannot_be_written_is_one_line(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    assert "cannot be written" in fails([*verb, "--out", str(tmp_path / "file" / "x.svg")], capsys)
    assert (tmp_path / "file").read_text() == "precious"


def test_flags_that_would_do_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert "width: 64 is for networks of the catalogue" in fails(["count", "--arch", "pdarts", "--width", "64"], capsys)
    idle = ["--arch", "resnet20", "--channels", "99"]
    assert "channels: 99 is for cells, not for resnet20" in fails(["count", *idle], capsys)
    assert "channels: 99 is for cells" in fails(["bench", *idle], capsys)
    assert "channels: 99 is for cells" in fails(["train", *idle, *out], capsys)
    assert "--rows: is for table1 and table2" in fails(["reproduce", "figures", "--rows", "bnn", *out], capsys)
    assert "digits: has a shape of its own" in fails(["bench", "digits", "--channels", "99"], capsys)
    assert "seconds: -1.0" in fails(["bench", "digits", "--seconds", "-1"], capsys)
    recipe = ["train", "--arch", "vgg-small", "--recipe", "digits", *out]
    assert "width: -1" in fails([*recipe, "--width", "-1"], capsys), "the recipe's cells were not asked for"
    assert not (tmp_path / "run").exists()


def test_drawing_the_cells_of_a_packed_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["draw", "bats-cifar10", "--out", str(tmp_path / "cells.svg")])
    assert (tmp_path / "cells.svg").read_text().startswith("<?xml")
    capsys.readouterr()
    assert "without cells" in fails(["draw", "digits", "--out", str(tmp_path / "none.svg")], capsys)
    assert not (tmp_path / "none.svg").exists()


def test_brackets_in_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cells [v2]" / "net[bold][/bold].onnx"
    cli.main(["export", "digits", "--out", str(file)])
    assert str(file) in capsys.readouterr().out.replace("\n", "").replace(" " * 2, "")
    assert file.is_file()


@pytest.mark.parametrize("arguments", [["list", "schemes", "--json"], ["predict", "--help"]], ids=" ".join)
def test_a_reader_that_goes_away_ends_it_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run([sys.executable, "-m", "binarch", *arguments], stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["count", "--arch", "pdarts", "--cells", "many"], "Error parsing --cells: invalid literal"),
        (["count"], "Missing from binarch count: --arch"),
        (["search", "--out", "x", "--wat"], "Unrecognized options: --wat"),
        (["train", "--precision", "fp32"], "'fp32' for argument '--precision'. Expected one of ('auto', '32', 'bf16'"),
        (["predict"], "Missing from binarch predict"),
        (["predict", "digits", "x", "--compil"], "--compil Perhaps you meant: --compile, --no-compile; see"),
        (["predict", "digits", "x", "--top", "/a long/" + "path/" * 20], "path/path/'; see"),
    ],
)
def test_wrong_flags_are_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in (line := fails(arguments, capsys))
    assert line.endswith(f"; see binarch {arguments[0]} --help")


def test_what_tyro_prints_itself_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["predict", "--tyro-print-completion", "bash"])
    assert not stop.value.code
    assert capsys.readouterr().out


def test_ranks_that_cannot_be_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "RANK: 3" in fails(["list", "networks"], capsys)


def test_a_begun_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--arch", "pdarts", "--out", str(tmp_path), *TINY_TRAIN]
    cli.main(arguments)
    capsys.readouterr()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert "--resume auto" in fails(arguments, capsys)
    assert "channels" in fails([*arguments, "--resume", "auto", "--channels", "8"], capsys)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_ctrl_c_saves_and_exits_130(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--arch", "pdarts", "--out", str(tmp_path), *TINY_TRAIN, "--epochs", "50"]
    handler = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 4.0)
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert stop.value.code == 130
    assert "--resume auto" in capsys.readouterr().err
    assert RunFolder(tmp_path).load_checkpoint() is not None


def test_help_names_the_words_that_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    def lines(verb: str) -> dict[str, str]:
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        return {line.split()[0].rstrip(","): line for line in capsys.readouterr().out.splitlines() if line}

    assert lines("train")["--space"].endswith("[bats; or darts, nasnet]")
    assert lines("train")["--resume"].endswith("stopped. [no]"), "auto is named already"
    for kind, flag in ((StageKind, "--binarize"), (Optimizer, "--optimizer"), (Loss, "--loss")):
        assert all(word in lines("train")[flag] for word in get_args(kind))
    assert "networks, archs, models" in lines("list")["WHAT"]
    assert lines("predict")["usage:"] == "usage: binarch predict NETWORK IMAGE... [flags]"
    assert lines("bench")["usage:"] == "usage: binarch bench [FILE] [flags]"
