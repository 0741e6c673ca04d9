"""Large files in pieces: joined they are what was cut, whatever happens in between."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import Pieces

from binarch.errors import UserError

CONTENT = st.binary(min_size=1, max_size=40)
LIMIT = st.integers(3, 20)


class Killed(BaseException):
    """The process ends here."""


def killed_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """Of the steps by which files come and go, only ``count`` are taken."""
    left = count

    def limited(step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*args: Any, **more: Any) -> Any:
            nonlocal left
            if ".tmp" not in str(args[0]) or step is os.replace:
                left -= 1
                if left < 0:
                    raise Killed
            return step(*args, **more)

        return take

    patch.setattr(os, "replace", limited(os.replace))
    patch.setattr(os, "unlink", limited(os.unlink))


@settings(deadline=None, max_examples=30)
@given(CONTENT, LIMIT)
def test_joined_equals_what_was_cut_and_no_piece_is_too_large(content: bytes, limit: int) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "run" / "last.ckpt"
        path.parent.mkdir()
        path.write_bytes(content)
        Pieces(Path(name), limit).cut(keep=False)
        assert path.exists() == (len(content) <= limit)
        pieces = list(path.parent.glob("*-of-*"))
        assert all(piece.stat().st_size <= limit for piece in pieces)
        Pieces(Path(name), limit).join()
        assert path.read_bytes() == content


@settings(deadline=None, max_examples=30)
@given(st.lists(CONTENT, min_size=1, max_size=4), LIMIT, st.booleans())
def test_the_last_cut_counts_and_leaves_no_older_pieces(contents: list[bytes], limit: int, keep: bool) -> None:
    with TemporaryDirectory() as name:
        path, pieces = Path(name) / "last.ckpt", Pieces(Path(name), limit)
        for content in contents:
            path.write_bytes(content)
            pieces.cut(keep=keep)
        assert len(list(Path(name).glob("*-of-*"))) == (len(content) > limit) * -(-len(content) // limit)
        path.unlink(missing_ok=len(content) > limit)
        pieces.join()
        assert not path.exists() or path.read_bytes() == content
        assert path.exists() == (len(content) > limit)


@settings(deadline=None, max_examples=30)
@given(CONTENT, CONTENT, LIMIT, st.integers(0, 25), st.booleans())
def test_a_kill_while_cutting_loses_nothing(old: bytes, new: bytes, limit: int, steps: int, carried: bool) -> None:
    """On the machine the new content is there; elsewhere, where no large file arrives, the new one or the old one."""
    with TemporaryDirectory() as name:
        path, pieces = Path(name) / "last.ckpt", Pieces(Path(name), limit)
        path.write_bytes(old)
        pieces.cut(keep=False)
        path.write_bytes(new)
        with pytest.MonkeyPatch.context() as patch:
            killed_after(steps, patch)
            with suppress(Killed):
                pieces.cut(keep=False)
        if carried and len(new) > limit:
            path.unlink(missing_ok=True)
        pieces.join()
        if carried and len(new) > limit and len(old) <= limit and not path.exists():
            return  # nothing but the small old file was ever carried
        assert path.read_bytes() in ((old, new) if carried else (new,))
        pieces.cut(keep=False)
        pieces.join()
        assert path.read_bytes() in ((old, new) if carried else (new,))


@settings(deadline=None, max_examples=30)
@given(st.data(), st.binary(min_size=7, max_size=30), st.integers(2, 6))
def test_a_missing_or_damaged_piece_is_named(data: st.DataObject, content: bytes, limit: int) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "last.ckpt"
        path.write_bytes(content)
        Pieces(Path(name), limit).cut(keep=False)
        piece = data.draw(st.sampled_from(sorted(Path(name).glob("*-of-*"))))
        if data.draw(st.booleans()):
            piece.unlink()
            says = "is missing"
        else:
            piece.write_bytes(piece.read_bytes() + b"!")
            says = "is damaged"
        with pytest.raises(UserError, match=says) as error:
            Pieces(Path(name), limit).join()
        assert piece.name in str(error.value)
        assert not path.exists()


def test_a_list_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt.pieces").write_text("[1]")
    with pytest.raises(UserError, match="is no list of pieces"):
        Pieces(tmp_path, 5).join()


def test_pieces_of_an_older_longer_file_do_no_harm(tmp_path: Path) -> None:
    """Carried over an older folder, pieces lie beside those of before."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, content in ((here, b"a longer one of before"), (there, b"a newer one")):
        folder.mkdir()
        (folder / "last.ckpt").write_bytes(content)
        Pieces(folder, 4).cut(keep=False)
    shutil.copytree(there, here, dirs_exist_ok=True)
    Pieces(here, 4).join()
    assert (here / "last.ckpt").read_bytes() == b"a newer one"


def test_a_whole_file_is_newer_than_its_pieces(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"an older state")
    Pieces(tmp_path, 4).cut(keep=False)
    path.write_bytes(b"a newer state")  # then the process was killed
    Pieces(tmp_path, 4).join()
    assert path.read_bytes() == b"a newer state"
