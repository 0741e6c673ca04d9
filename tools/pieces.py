"""Large files in pieces, so that a folder can be carried where only small files pass.

``last.ckpt`` becomes ``last.ckpt.SUM.00-of-03``, ``...01-of-03``, ``...02-of-03``, named by the first digits of its
SHA-256, and ``last.ckpt.pieces``, which lists them with a sum each. The list is written last, in one step, and pieces
of another content have other names: the list always names pieces that are complete, the old ones or the new ones.
"""

import re
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import final

from binarch.errors import UserError
from binarch.runs import read_json, write_atomic

_LIST = ".pieces"
_PIECE = re.compile(r".+\.[0-9a-f]{16}\.\d+-of-\d+")


@final
class Pieces:
    """The files below ``folder`` that are larger than ``largest`` bytes."""

    def __init__(self, folder: Path, largest: int) -> None:
        self.folder, self.largest = folder, largest

    def cut(self, *, keep: bool) -> None:
        """Cut what is too large; remove what was cut (unless ``keep``), and pieces that no list names."""
        for path in self._files():
            listed = path.with_name(path.name + _LIST)
            if path.stat().st_size > self.largest:
                self._cut(path, listed)
                if not keep:
                    path.unlink()
            else:
                listed.unlink(missing_ok=True)  # of a larger content that it had before
        named = {listed.with_name(name) for listed in self._lists() for name in _read(listed)}
        for path in self.folder.rglob("*-of-*"):
            if _PIECE.fullmatch(path.name) and path not in named:
                path.unlink()

    def join(self) -> None:
        """Make whole again what is there in pieces only; a missing or damaged piece is a :class:`UserError`.

        The pieces stay until the next cut. A whole file beside pieces is the newer one, of a process that was killed
        before it could be cut.
        """
        for listed in self._lists():
            path = listed.with_name(listed.name.removesuffix(_LIST))
            if not path.exists():
                parts = (_checked(listed.with_name(name), known) for name, known in _read(listed).items())
                write_atomic(path, b"".join(parts))

    def _cut(self, path: Path, listed: Path) -> None:
        content = path.read_bytes()
        count = -(-len(content) // self.largest)
        size = -(-len(content) // count)  # by size and count alone, so that a name stands for one content
        name = f"{path.name}.{sha256(content).hexdigest()[:16]}"
        parts = {f"{name}.{i:02}-of-{count:02}": content[i * size : (i + 1) * size] for i in range(count)}
        for part, data in parts.items():
            write_atomic(path.with_name(part), data)
        sums = {part: sha256(data).hexdigest() for part, data in parts.items()}
        write_atomic(listed, dumps(sums, indent=1) + "\n")

    def _files(self) -> list[Path]:
        """All but pieces, lists and what is half written."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(path for path in found if not _PIECE.fullmatch(path.name) and path.suffix != _LIST)

    def _lists(self) -> list[Path]:
        return sorted(self.folder.rglob(f"*{_LIST}"))


def _read(listed: Path) -> dict[str, str]:
    sums = read_json(listed)
    if not isinstance(sums, dict) or not all(map(_PIECE.fullmatch, sums)) or any("/" in name for name in sums):
        raise UserError(f"{listed}: is no list of pieces; carry the folder again, or delete its run to start over")
    return sums


def _checked(piece: Path, known: str) -> bytes:
    try:
        content = piece.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{piece}: is missing; carry the whole folder, or delete its run to start over") from None
    if sha256(content).hexdigest() != known:
        raise UserError(f"{piece}: is damaged; carry the folder again, or delete its run to start over")
    return content
