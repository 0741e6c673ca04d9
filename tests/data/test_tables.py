import io
import subprocess
import sys
from pathlib import Path

import datasets
import PIL.Image
import pytest

from binarch.data import DataConfig, load
from binarch.errors import UserError


def png(value: int) -> dict[str, object]:
    buffer = io.BytesIO()
    PIL.Image.new("L", (8, 8), value).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def table(file: Path, labels: list, kind: object, image: str = "img", label: str = "label", **extra: list) -> Path:
    """Write one parquet file whose image k has the grey value k."""
    features = datasets.Features({image: datasets.Image(), label: kind})
    features.update({name: datasets.Value("int64") for name in extra})
    columns = {image: [png(value) for value in range(len(labels))], label: labels, **extra}
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(file)
    return file


NAMES = datasets.ClassLabel(names=["zebra", "ape"])


def test_hub_layout_with_shards_in_a_subfolder(tmp_path: Path) -> None:
    table(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, 0], NAMES)
    table(tmp_path / "data" / "train-00001-of-00002.parquet", [1, 1], NAMES)
    table(tmp_path / "data" / "test-00000-of-00001.parquet", [1], NAMES)
    data = load(DataConfig(data=tmp_path, dataset="animals"))
    assert (data.name, data.classes) == ("animals", ("zebra", "ape"))
    assert data.train.labels.tolist() == [0, 1, 0, 1, 1]
    assert data.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
    assert data.test().labels.tolist() == [1]


def test_validation_stands_in_for_test_and_one_file_is_training(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", [0, 1] * 2, NAMES)
    table(tmp_path / "validation" / "0000.parquet", [1, 0, 1], NAMES)
    assert load(DataConfig(data=tmp_path)).test().labels.tolist() == [1, 0, 1]
    table(tmp_path / "alone" / "everything.parquet", [0, 1] * 2, NAMES)
    alone = load(DataConfig(data=tmp_path / "alone"))
    assert (len(alone.train), alone.has_test) == (4, False)


@pytest.mark.parametrize(
    "labels, kind, classes, indices",
    [
        (["ox", "ant", "ox", "ant"], "string", ("ant", "ox"), [1, 0, 1, 0]),
        ([10, 9, 10, 9], "int64", ("9", "10"), [1, 0, 1, 0]),
    ],
)
def test_string_and_integer_labels_become_classes(tmp_path: Path, labels, kind, classes, indices) -> None:
    table(tmp_path / "train.parquet", labels, datasets.Value(kind), label="kind")
    data = load(DataConfig(data=tmp_path))
    assert data.classes == classes
    assert data.train.labels.tolist() == indices


def test_fine_label_wins_and_other_names_are_ambiguous(tmp_path: Path) -> None:
    features = datasets.Features({"img": datasets.Image(), "fine_label": NAMES, "coarse_label": NAMES})
    columns = {"img": [png(k) for k in range(4)], "fine_label": [0, 1, 0, 1], "coarse_label": [0, 0, 1, 1]}
    made = datasets.Dataset.from_dict(columns, features=features)
    (tmp_path / "a").mkdir()
    made.to_parquet(tmp_path / "a" / "train.parquet")
    assert load(DataConfig(data=tmp_path / "a")).train.labels.tolist() == [0, 1, 0, 1]
    (tmp_path / "b").mkdir()
    made.rename_column("fine_label", "other").to_parquet(tmp_path / "b" / "train.parquet")
    with pytest.raises(UserError, match="2 columns could be the label"):
        load(DataConfig(data=tmp_path / "b"))


def test_class_label_wins_over_plain_integers(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", [0, 1, 0, 1], NAMES, label="kind", number=[5, 6, 7, 8])
    assert load(DataConfig(data=tmp_path)).classes == ("zebra", "ape")


def test_missing_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    datasets.Dataset.from_dict({"label": [0, 1]}).to_parquet(tmp_path / "a" / "train.parquet")
    with pytest.raises(UserError, match="0 image columns"):
        load(DataConfig(data=tmp_path / "a"))
    table(tmp_path / "b" / "train.parquet", [0.5, 1.5], datasets.Value("float32"))
    with pytest.raises(UserError, match="0 columns could be the label"):
        load(DataConfig(data=tmp_path / "b"))
    table(tmp_path / "c" / "test.parquet", [0, 1], NAMES)
    with pytest.raises(UserError, match="no train split among test"):
        load(DataConfig(data=tmp_path / "c"))


def test_rows_that_are_wrong_are_named(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", [0, 1, 0, 1], NAMES)
    table(tmp_path / "test.parquet", [0, -1], NAMES)
    with pytest.raises(UserError, match="split test, row 1: label -1"):
        load(DataConfig(data=tmp_path)).test()
    features = datasets.Features({"img": datasets.Image(), "label": NAMES})
    for content in ({"bytes": b"nonsense", "path": None}, None):
        columns = {"img": [png(0), png(1), content, png(3)], "label": [0, 1, 0, 1]}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
        with pytest.raises(UserError, match=r"split train, row 2: .*remove or replace"):
            load(DataConfig(data=tmp_path))


def test_damaged_parquet_is_one_line(tmp_path: Path) -> None:
    file = table(tmp_path / "train.parquet", [0, 1], NAMES)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read") as caught:
        load(DataConfig(data=tmp_path))
    assert "\n" not in str(caught.value)


def test_file_is_read_anew_and_signs_in_its_name_mean_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run[1] *"
    table(folder / "train.parquet", [0, 1] * 2, NAMES)
    assert len(load(DataConfig(data=folder)).train) == 4
    table(folder / "train.parquet", [0, 1] * 3, NAMES)
    assert len(load(DataConfig(data=folder)).train) == 6


def test_limit_reads_the_right_rows(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", [k % 2 for k in range(200)], NAMES)
    data = load(DataConfig(data=tmp_path, limit=20), seed=3)
    assert data.train.labels.bincount().tolist() == [10, 10]
    values = data.train.pixels[:, 0, 0, 0].long()
    assert (values % 2).tolist() == data.train.labels.tolist()
    assert len(values.unique()) == 20
    other = load(DataConfig(data=tmp_path, limit=20), seed=4).train.pixels[:, 0, 0, 0].long()
    assert values.tolist() != other.tolist()


def test_progress_bars_stay_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "train.parquet", [0, 1] * 2, NAMES)
    capfd.readouterr()
    shown = datasets.are_progress_bars_disabled()
    load(DataConfig(data=tmp_path))
    assert datasets.are_progress_bars_disabled() == shown
    assert capfd.readouterr() == ("", "")


# In a process of its own, with an empty home: what the libraries do on first use, and with their settings as
# they are. Attempts are counted, because a library may swallow the error that a refused one raises.
LOCAL = """
import socket, sys
from pathlib import Path
attempts = []
def refuse(*arguments, **_):
    attempts.append(arguments)
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
from binarch.data import DataConfig, load
data = load(DataConfig(data=Path(sys.argv[1])))
print(len(data.train), len(data.test()), attempts)
"""

HUB = """
from binarch.data import DataConfig, load
from binarch.errors import UserError
for name in ("someone/something", "cifar10"):
    try:
        load(DataConfig(name))
    except UserError as error:
        print(error)
"""


def alone(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_local_paths_need_no_network_and_leave_no_cache(tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", [0, 1] * 2, NAMES)
    table(tmp_path / "set" / "test.parquet", [0, 1], NAMES)
    home = tmp_path / "home"
    assert alone(LOCAL, str(tmp_path / "set"), HF_HOME=str(home)) == "4 2 []\n"
    assert not [file for file in home.rglob("*") if file.is_file()]


def test_hub_out_of_reach_is_one_line_that_offers_a_path(tmp_path: Path) -> None:
    lines = alone(HUB, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1").splitlines()
    assert len(lines) == 2
    assert "someone/something" in lines[0]
    assert "uoft-cs/cifar10" in lines[1]
    assert all("--data PATH" in line for line in lines)


def test_set_of_the_hub_is_read_without_decoding_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(labels: list[int], images: list) -> datasets.Dataset:
        features = datasets.Features({"image": datasets.Image(), "label": NAMES})
        return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)

    splits = {
        "train": fetched([0, 1, 1, 0], [png(value) for value in (5, 6, 7, 8)]),
        "test": fetched([1, 0], [png(9), {"bytes": b"nonsense", "path": None}]),
    }
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name: asked.append(name) or datasets.DatasetDict(splits))
    data = load(DataConfig("someone/something"))
    assert asked == ["someone/something"]
    assert (data.name, data.classes) == ("someone/something", ("zebra", "ape"))
    assert data.train.pixels[:, 0, 0, 0].tolist() == [5, 6, 7, 8]
    assert data.train.labels.tolist() == [0, 1, 1, 0]
    with pytest.raises(UserError, match="someone/something, split test, row 1"):
        data.test()


def test_name_that_is_a_local_folder_is_pointed_to_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data"):
        load(DataConfig(str(tmp_path)))
