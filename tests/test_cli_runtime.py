"""The verbs around packed networks: pack, predict, bench, export."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from binarch import cli
from binarch.data import DataConfig, load
from binarch.runtime import load as load_packed

SHAPE = ["--cells", "3", "--channels", "4", "--groups", "2"]


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail; return its single line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def result(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    cli.main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of a second on digits."""
    folder = tmp_path_factory.mktemp("run")
    tiny = [*SHAPE, "--epochs", "1", "--limit", "60", "--batch-size", "16"]
    cli.main(["train", "--arch", "pdarts", "--recipe", "digits", "--out", str(folder), *tiny])
    return folder


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packed") / "net.safetensors"
    cli.main(["pack", str(run), "--out", str(file)])
    return file


def test_pack_tells_the_size(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "net.safetensors"
    found = result(["pack", str(run), "--out", str(out)], capsys)
    assert found["bytes"] == out.stat().st_size
    costs = json.loads((run / "result.json").read_text())["costs"]
    assert found["bytes_as_float32"] == 4 * (costs["params"] + costs["output_scales"])
    assert found["share"] == pytest.approx(found["bytes"] / found["bytes_as_float32"])
    assert load_packed(out).classes == [str(digit) for digit in range(10)]
    cli.main(["pack", str(run), "--out", str(out)])
    assert f"{found['share']:.2%}" in capsys.readouterr().out


def test_predict_sees_what_training_saw(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = load(DataConfig()).test().pixels[:3].permute(0, 2, 3, 1).numpy()
    files = []
    for index, (image, mode) in enumerate(zip(pixels, ("L", "RGB", "RGBA"), strict=True)):
        files.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(image).convert(mode).save(files[-1])
    found = result(["predict", str(packed), *files, "--top", "2"], capsys)["predictions"]
    assert [row["image"] for row in found] == files
    expected = load_packed(packed).predict(pixels, top=2)
    for row, best in zip(found, expected, strict=True):
        assert [(entry["class"], entry["probability"]) for entry in row["top"]] == best
    cli.main(["predict", str(packed), *files])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(file in line and line.count("%") == 5 for file, line in zip(files, lines, strict=True))


@pytest.mark.parametrize("mode", ["L", "I;16", "P", "LA", "RGBA", "CMYK", "1"])
def test_predict_takes_pictures_of_any_kind_and_shape(
    mode: str, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (30, 21), np.uint8)
    file = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    picture = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    picture.save(file)
    best = result(["predict", str(packed), str(file)], capsys)["predictions"][0]["top"]
    assert len(best) == 5
    assert sum(entry["probability"] for entry in best) <= 1 + 1e-9


def test_bad_images_and_files_are_named(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, text = tmp_path / "broken.png", tmp_path / "text.safetensors"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    text.write_text("no network")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    good = str(tmp_path / "good.png")
    assert "broken.png" in fails(["predict", str(packed), good, str(broken)], capsys)
    assert "none.png: no such file" in fails(["predict", str(packed), str(tmp_path / "none.png")], capsys)
    assert "is a folder" in fails(["predict", str(packed), str(tmp_path)], capsys)
    assert "IMAGE" in fails(["predict", str(packed)], capsys)
    assert "top: 0" in fails(["predict", str(packed), good, "--top", "0"], capsys)
    assert "text.safetensors" in fails(["predict", str(text), good], capsys)
    assert "nothing" in fails(["predict", str(tmp_path / "nothing"), good], capsys)


def test_describe_tells_what_the_card_holds(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = result(["describe", str(packed)], capsys)
    assert told["image"] == {"height": 8, "width": 8, "channels": 3}
    assert {"classes", "test_accuracy", "genotype", "costs"} <= set(told)
    cli.main(["describe", str(packed)])
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "0, 1, 2, 3" in lines["classes"]
    assert f"{told['costs']['params']:,}" in lines["params"]
    assert f"{told['test_accuracy']:.2%}" in lines["test accuracy"]
    assert "nothing" in fails(["describe", "nothing"], capsys)


def test_mistakes_keep_what_is_there(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    out.write_text("precious")
    assert "config.json" in fails(["pack", str(tmp_path), "--out", str(out)], capsys)
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text((run / "config.json").read_text())
    assert "not finished" in fails(["pack", str(half), "--out", str(out)], capsys)
    assert "half: cannot be written (Is a directory)" in fails(["pack", str(run), "--out", str(half)], capsys)
    assert "not a packed network" in fails(["export", str(out), "--out", str(out)], capsys)
    assert "config.json" in fails(["export", str(tmp_path), "--out", str(out)], capsys)
    assert out.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "net.safetensors"]


def test_export_writes_a_model_that_gives_the_same_answers(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra: bench)")
    for source in (run, packed):
        out = tmp_path / "net.onnx"
        found = result(["export", str(source), "--format", "onnx", "--out", str(out)], capsys)
        assert found["bytes"] == out.stat().st_size
        if "same_class" in found:
            assert found["same_class"] == 16
            assert found["largest_difference"] < 1e-2


def test_bench_of_a_file(packed: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in (packed, run):
        found = result(["bench", str(source), "--against", "torch", "--batch", "2", "--seconds", "0"], capsys)
        assert [row["engine"] for row in found["results"]] == ["binarch", "torch"]
        assert all(row["median_ms"] > 0 for row in found["results"])
        assert found["machine"]["cpu"]
        assert found["file_bytes"] == packed.stat().st_size


@pytest.mark.parametrize(
    "arch",
    [
        ["--arch", "pdarts", "--space", "bats", *SHAPE, "--image-size", "8", "--classes", "3"],
        ["--arch", "vgg-small", "--image-size", "8"],
        ["darts-v2", *SHAPE, "--image-size", "8"],
    ],
)
def test_bench_of_random_weights(arch: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["bench", *arch, "--against", "torch", "--seconds", "0"])
    text = capsys.readouterr().out
    for word in ("binarch", "torch", "median ms", "popcount limit", "packed"):
        assert word in text


def test_bench_mistakes(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--arch" in fails(["bench"], capsys)
    assert "one of them" in fails(["bench", str(packed), "--arch", "pdarts"], capsys)
    assert "neither" in fails(["bench", str(tmp_path / "nothing")], capsys)
    assert "neither" in fails(["bench", "--arch", "pdart"], capsys)
    assert "'larq' is unknown" in fails(["bench", str(packed), "--against", "torch,larq"], capsys)
    assert "threads: 0" in fails(["bench", str(packed), "--threads", "0"], capsys)
    assert "image_size" in fails(["bench", "--arch", "vgg-small", "--image-size", "9"], capsys)
