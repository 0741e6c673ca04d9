"""The run folder: atomic writes, claims, damaged files."""

import json
import os
from pathlib import Path

import pytest
import torch

from binarch.errors import UserError
from binarch.runs import RunFolder, environment, from_plain, read_json, to_plain, write_atomic
from binarch.training import TrainConfig


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    write_atomic(target, "old")

    def refuse(*_: object) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match="disk is full"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_json_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "a.json")
    for content in (b"{", b"\xff\xfe", b""):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
            read_json(tmp_path / "a.json")


def test_claims(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = {"verb": "train", "network": {"cells": 3}, "device": "cpu", "data": {"data": None}}
    folder.claim(config, resume=False)
    with pytest.raises(UserError, match="--resume auto"):
        folder.claim(config, resume=False)
    folder.claim({**config, "device": "cuda", "data": {"data": "elsewhere"}, "workers": 3}, resume=True)
    with pytest.raises(UserError, match=r"network\.cells: 4 .*\(3\)"):
        folder.claim({**config, "network": {"cells": 4}}, resume=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == config
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "file").claim(config, resume=False)


def test_settings_that_are_newer_than_the_folder_had_their_default(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim({"epochs": [1]}, resume=False)
    defaults = {"epochs": [9], "brood": 1, "network": {"width": 0}}
    folder.claim({"epochs": [1], "brood": 1, "network": {"width": 0}}, resume=True, defaults=defaults)
    with pytest.raises(UserError, match=r"brood: 2 .*\(1\)"):
        folder.claim({"epochs": [1], "brood": 2}, resume=True, defaults=defaults)
    with pytest.raises(UserError, match=r"network\.width: 8"):
        folder.claim({"epochs": [1], "network": {"width": 8}}, resume=True, defaults=defaults)
    with pytest.raises(UserError, match=r"epochs: \[9\]"):
        folder.claim({"epochs": [9]}, resume=True, defaults=defaults)


@pytest.mark.parametrize(("before", "now"), [(True, "random"), (False, "none")])
def test_a_folder_that_spelled_a_setting_otherwise_is_continued(before: bool, now: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    plain = to_plain(TrainConfig(flip=now))
    folder.claim({**plain, "flip": before}, resume=False)
    folder.claim(plain, resume=True)
    assert from_plain(folder.settings(), TrainConfig, tmp_path).flip == now
    with pytest.raises(UserError, match=f"flip: 'alternating' .*'{now}'"):
        folder.claim({**plain, "flip": "alternating"}, resume=True)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="does not hold the settings"):
        folder.settings()


def test_checkpoints_hold_tensors_and_plain_containers_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.load_checkpoint() is None
    state = {"weights": {"a": torch.arange(3)}, "rows": [{"epoch": 0}], "position": {"carry": None}}
    folder.save_checkpoint(state)
    loaded = folder.load_checkpoint()
    assert loaded is not None
    assert torch.equal(loaded["weights"]["a"], torch.arange(3))
    assert loaded["rows"] == [{"epoch": 0}]

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, ("touch executed",)

    torch.save({"evil": Evil()}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        folder.load_checkpoint()
    assert not Path("executed").exists()


def test_settings_survive_the_way_to_json_and_back(tmp_path: Path) -> None:
    config = TrainConfig(epochs=(1, 2), cutout=3)
    plain = json.loads(json.dumps(to_plain(config)))
    assert from_plain(plain, TrainConfig, tmp_path) == config
    for damage in ({"epochs": "many"}, {"unknown": 1}, {"epochs": [0]}):
        with pytest.raises(UserError):
            from_plain({**plain, **damage}, TrainConfig, tmp_path)


def test_environment_says_where() -> None:
    env = environment()
    assert env["torch"] == torch.__version__
    assert env["threads"] >= 1
    assert env["cpu"]
