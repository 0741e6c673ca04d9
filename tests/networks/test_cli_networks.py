"""The verbs that take a packed file take the name of a network of the package too."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import binarch
from binarch import __main__, cli
from binarch.data import DataConfig
from binarch.data import load as load_data
from binarch.deploy import find_program, open_program
from binarch.models import NetworkConfig
from binarch.networks import shipped
from binarch.predict import main as predict
from binarch.predict import read_pictures


def fails(run, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail; return its single line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_list_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", "networks", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(shipped())
    assert found["digits"]["bytes"] == shipped()["digits"].file.stat().st_size
    cli.main(["list", "networks"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "data", "accuracy", "size", "what"]
    for row, (name, facts) in zip(rows, found.items(), strict=True):
        assert row.split()[:3] == [name, facts["data"], f"{facts['test_accuracy']:.2%}"]
        assert row.rstrip().endswith(facts["what"])


def test_predict_by_name_gives_the_answers_of_the_loaded_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = load_data(DataConfig()).test().pixels[:3].permute(0, 2, 3, 1).numpy()
    files = [str(tmp_path / f"{index}.png") for index in range(3)]
    for image, file in zip(pixels, files, strict=True):
        Image.fromarray(image).save(file)
    __main__.main(["predict", "digits", *files, "--top", "2", "--json"])
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["image"] for row in rows] == files
    expected = binarch.load("digits").predict(pixels, top=2)
    assert [[(best["class"], best["probability"]) for best in row["top"]] for row in rows] == expected
    outputs = []
    for run in (__main__.main, cli.main):  # the quick way in, and that of all verbs
        run(["predict", "digits", *files, "--compile"])
        outputs.append(capsys.readouterr())
    assert outputs[0] == outputs[1]
    assert outputs[0].err == ""


def test_enlarged_photos_are_seen_as_the_small_ones_were(tmp_path: Path) -> None:
    """Each pixel of a digit as a square of 25; scaling back gives nearly the pixels of the training."""
    images = load_data(DataConfig()).test()
    network = binarch.load("digits")
    network.warmup()
    right = 0
    for index in range(40):
        pixels = images.pixels[index].permute(1, 2, 0).numpy()
        big = np.kron(pixels, np.ones((25, 25, 1), np.uint8))
        Image.fromarray(np.pad(big, ((0, 0), (70, 70), (0, 0)))).save(tmp_path / "photo.png")  # wider than high
        ((best, _),) = network.predict(read_pictures(network.size, [tmp_path / "photo.png"]), top=1)[0]
        right += best == str(int(images.labels[index]))
    assert right >= 35


def test_an_unknown_name_is_one_line_with_the_names_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    photo, out = str(tmp_path / "photo.png"), str(tmp_path / "net.onnx")
    commands = [["predict", "digit", photo], ["bench", "digit"], ["export", "digit", "--out", out]]
    for command in commands:
        for run in (__main__.main, cli.main):
            line = fails(run, command, capsys)
            assert "digit:" in line or "'digit'" in line
            assert all(name in line for name in shipped())
    assert "top: 0" in fails(predict, ["digits", photo, "--top", "0"], capsys)
    assert not Path(out).exists()


def test_bench_and_export_find_the_same_program() -> None:
    program = shipped()["digits"].program
    assert open_program("digits").encode() == program.encode()
    assert find_program("digits", NetworkConfig(), classes=10, image_size=32).encode() == program.encode()


def test_help_and_version_of_the_way_in(capsys: pytest.CaptureFixture[str]) -> None:
    __main__.main(["--version"])
    assert capsys.readouterr().out.strip() == binarch.__version__
    with pytest.raises(SystemExit) as stop:
        __main__.main(["predict", "--help"])
    assert stop.value.code == 0
    quick = capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    assert capsys.readouterr().out == quick
    assert "--[no-]compile" in quick
