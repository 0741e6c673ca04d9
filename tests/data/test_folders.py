from pathlib import Path

import PIL.Image
import pytest

from binarch.data import DataConfig, Dataset, load
from binarch.errors import UserError


def write(path: Path, value: int = 0, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("L", (side, side), value).save(path)


def class_folders(root: Path, classes: tuple[str, ...] = ("ant", "bee"), count: int = 3) -> Path:
    for index, name in enumerate(classes):
        for number in range(count):
            write(root / name / f"{number}.png", 100 * index + number)
    return root


def load_folder(path: Path, **settings) -> Dataset:
    return load(DataConfig(data=path, **settings))


def test_class_folders_without_a_test_split(tmp_path: Path) -> None:
    data = load_folder(class_folders(tmp_path / "insects"))
    assert (data.name, data.classes, data.image_size) == ("insects", ("ant", "bee"), 8)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert not data.has_test
    with pytest.raises(UserError, match="no test split; add"):
        data.test()


@pytest.mark.parametrize("held_out", ["test", "validation", "val"])
def test_train_and_test_folders(tmp_path: Path, held_out: str) -> None:
    class_folders(tmp_path / "train", ("ant", "bee", "cow"))
    class_folders(tmp_path / held_out, ("bee",), 2)
    data = load_folder(tmp_path, dataset="mine")
    assert (data.name, data.classes, len(data.train)) == ("mine", ("ant", "bee", "cow"), 9)
    assert data.test().labels.tolist() == [1, 1]
    assert data.test() is data.test()


def test_test_wins_over_validation(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "validation", count=4)
    class_folders(tmp_path / "test", count=2)
    assert len(load_folder(tmp_path).test()) == 4


def test_test_images_are_not_decoded_until_asked_for(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    (tmp_path / "test" / "ant").mkdir(parents=True)
    (tmp_path / "test" / "ant" / "bad.png").write_bytes(b"not an image")
    data = load_folder(tmp_path)
    assert data.has_test
    with pytest.raises(UserError, match=r"test.ant.bad\.png"):
        data.test()


def test_words_in_file_names_do_not_make_splits(tmp_path: Path) -> None:
    class_folders(tmp_path)
    write(tmp_path / "ant" / "test_1.png")
    data = load_folder(tmp_path)
    assert len(data.train) == 7
    assert not data.has_test


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load_folder(class_folders(tmp_path, ("car", "train"))).classes == ("car", "train")


def test_other_files_hidden_files_and_empty_folders_are_passed_over(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "ant" / "notes.txt").write_text("six legs")
    (tmp_path / "ant" / ".hidden.png").write_bytes(b"")
    write(tmp_path / "ant" / ".thumbs" / "small.png")
    write(tmp_path / "ant" / "more" / "deep.PNG")
    (tmp_path / "empty").mkdir()
    data = load_folder(tmp_path)
    assert data.classes == ("ant", "bee")
    assert len(data.train) == 7


def test_folder_is_read_anew_each_time(tmp_path: Path) -> None:
    class_folders(tmp_path)
    assert len(load_folder(tmp_path).train) == 6
    write(tmp_path / "bee" / "new.png")
    assert len(load_folder(tmp_path).train) == 7


def test_mixed_sizes_become_32_and_a_given_size_is_obeyed(tmp_path: Path) -> None:
    class_folders(tmp_path)
    write(tmp_path / "ant" / "large.png", side=100)
    assert load_folder(tmp_path).image_size == 32
    assert load_folder(tmp_path, image_size=12).image_size == 12


def test_test_images_have_the_size_of_the_training_images(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    write(tmp_path / "test" / "ant" / "large.png", side=20)
    assert load_folder(tmp_path).test().pixels.shape == (1, 3, 8, 8)


def test_broken_file_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path)
    broken = tmp_path / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(UserError, match=r"bee.1\.png: .*remove or replace"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "classes, count, message",
    [
        (("ant",), 5, "only 1 class"),
        (("ant", "bee"), 1, "'ant' has 1 training images"),
        ((), 0, "no images found"),
    ],
)
def test_sets_that_teach_nothing_are_refused(tmp_path: Path, classes, count: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_folder(class_folders(tmp_path, classes, count))


def test_unknown_class_and_emptiness_in_test_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="no images found"):
        load_folder(tmp_path)
    class_folders(tmp_path / "test", ("wasp",))
    with pytest.raises(UserError, match="'wasp' has no training images"):
        load_folder(tmp_path)


def test_missing_path_and_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        load_folder(tmp_path / "file")


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "validation"), ("TRAINING", "testing")], ids=str)
def test_split_folders_in_any_spelling(names: tuple[str, str], tmp_path: Path) -> None:
    class_folders(tmp_path / names[0])
    class_folders(tmp_path / names[1], count=3)
    found = load_folder(tmp_path)
    assert "Train" not in found.classes
    assert found.has_test
    assert len(found.classes) * 3 == len(found.test())


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "training", ("easy", "hard"))
    class_folders(tmp_path, ("running", "walking"))
    assert load_folder(tmp_path).classes == ("running", "training", "walking")


def test_the_exact_name_of_a_split_wins(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "training", ("ant", "wasp"))
    class_folders(tmp_path / "testé", ("wasp",))
    found = load_folder(tmp_path)
    assert (found.classes, found.has_test) == (("ant", "bee"), False)


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("Train", "Training"):
        class_folders(tmp_path / name)
    with pytest.raises(UserError, match="Train and Training are both the split train"):
        load_folder(tmp_path)


def test_a_test_split_alone_is_no_set(tmp_path: Path) -> None:
    class_folders(tmp_path / "test")
    class_folders(tmp_path / "val")
    with pytest.raises(UserError, match="has the splits test, val and no training images"):
        load_folder(tmp_path)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    class_folders(tmp_path, ("test", "real"))
    assert load_folder(tmp_path).classes == ("real", "test")
