"""The run folder: everything a run leaves, in files a person can open.

==================  ============================================================================
``config.json``     the verb and every setting, enough to start the run again
``env.json``        versions, machine, threads, git state, date
``metrics.jsonl``   one JSON object per finished epoch
``genotypes/``      the genotype derived after each search epoch
``genotype.json``   the final genotype
``hard.json``       the images that are learned from, where a proxy chose them
``result.json``     final numbers: accuracies, seconds, costs
``last.ckpt``       everything needed to continue (PyTorch file, read with ``weights_only=True``)
``network.safetensors``  weights after the last epoch
``report.html``     all of the above, told in one self-contained page
``log.txt``         what was printed
==================  ============================================================================

Every write is atomic: the text goes to a temporary file beside the target, is flushed to the disk, and
replaces the target in one step. A kill at any moment leaves the old file or the new one, never half of one.
"""

import io
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from cattrs import Converter

from binarch.errors import UserError
from binarch.ranks import ALONE, Ranks

T = TypeVar("T")
#: Settings that say where a run reads and computes, not what: they may differ when it is continued.
WHERE = ("device", "data", "executor", "workers")
#: Settings that were spelled otherwise: name, the word in older folders, today's word for the same.
RESPELLED = (("flip", True, "random"), ("flip", False, "none"))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace ``path`` by ``content`` in one step; what was there stays where that is not possible."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); give another place, or make room there"
        ) from None
    finally:
        with suppress(OSError):  # there is none, or not even a folder for it
            temporary.unlink()


def read_json(path: Path) -> Any:
    """Parse ``path``; a missing or damaged file is a :class:`UserError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a run folder that holds {path.name}") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a run folder that holds {path.name}"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); restore the file or start a new run") from None


def read_settings(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a run, in today's words."""
    plain = read_json(path)
    if not isinstance(plain, dict):
        raise UserError(f"{path}: does not hold the settings of a run; restore the file or start a new run")
    for name, old, new in RESPELLED:
        if plain.get(name) is old:
            plain[name] = new
    return plain


class RunFolder:
    """One run's folder on disk; creates nothing until something is written.

    Where several ranks share a run, the first one writes and reads, and the others are told what it read. So all take
    the same decisions, none waits for a file, and only the first one needs the disk. All ranks must read alike.
    """

    def __init__(self, path: Path | str, ranks: Ranks = ALONE) -> None:
        self.path, self.ranks = Path(path), ranks

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def claim(self, config: Mapping[str, Any], *, resume: bool, defaults: Mapping[str, Any] | None = None) -> None:
        """Begin a run with ``config``, or continue the one that was begun with it.

        ``defaults`` stand for settings that are newer than the folder.

        A folder that holds a run is touched only with ``resume``, and only if its settings are the same (but for
        those of :data:`WHERE`): anything else is a :class:`UserError`, before a byte is written.
        """
        self.ranks.told(lambda: self._claim(config, resume, defaults or {}))

    def _claim(self, config: Mapping[str, Any], resume: bool, defaults: Mapping[str, Any]) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--out {self.path}: is a file; give a folder")
        if not (self / "config.json").is_file():
            self.write_json("env.json", {**environment(), "ranks": self.ranks.world})
            self.write_json("config.json", config)
            return
        if not resume:
            raise UserError(
                f"--out {self.path}: holds a run already; add --resume auto to continue it, or give another folder"
            )
        before = {**_flatten(json.loads(json.dumps(defaults))), **_flatten(read_settings(self / "config.json"))}
        for name, value in _flatten(json.loads(json.dumps(config))).items():
            if before.get(name) != value and name.rpartition(".")[2] not in WHERE:
                raise UserError(
                    f"{name}: {value!r} is not what {self.path} was begun with ({before.get(name)!r}); resume with "
                    "the same settings, or give another --out"
                )

    def child(self, name: str) -> "RunFolder":
        """A run inside this run, e.g. one seed of several."""
        return RunFolder(self.path / name, self.ranks)

    def write(self, name: str, content: str | bytes) -> None:
        """Write the file ``name``, atomically."""
        if self.ranks.first:
            write_atomic(self / name, content)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write ``value`` as readable JSON, atomically."""
        self.write(name, json.dumps(value, indent=1) + "\n")

    def read_json(self, name: str) -> Any:
        """Read one of the folder's JSON files."""
        return self.ranks.told(lambda: read_json(self / name))

    def settings(self) -> dict[str, Any]:
        """What :func:`read_settings` says of the folder."""
        return self.ranks.told(lambda: read_settings(self / "config.json"))

    def has(self, name: str) -> bool:
        """Whether the file ``name`` exists in the folder."""
        return self.ranks.told((self / name).is_file)

    def metrics(self) -> list[dict[str, Any]]:
        """All epochs recorded so far; empty before the first."""
        return self.ranks.told(lambda: _rows(self / "metrics.jsonl"))

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replace the record of epochs (atomic, so a resumed run never shows an epoch twice)."""
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write ``last.ckpt``: tensors and plain containers only, so it loads without pickle's powers."""
        if self.ranks.first:
            buffer = io.BytesIO()
            torch.save(dict(state), buffer)
            write_atomic(self / "last.ckpt", buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read ``last.ckpt``, or ``None`` where there is none."""
        return self.ranks.told(lambda: _checkpoint(self / "last.ckpt"))


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line]


def _checkpoint(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); delete it to start over, or give another --out"
        ) from None
    return dict(state)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    parts = (_flatten(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {name: item for part in parts for name, item in part.items()}


def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    return converter


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass of settings as plain containers, for JSON."""
    return dict(_converter().unstructure(config))


def from_plain(value: Mapping[str, Any], kind: type[T], where: Path) -> T:
    """Read settings back; a flaw is a :class:`UserError` that names the file."""
    try:
        return _converter().structure(value, kind)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: does not hold the settings of a {kind.__name__} ({error})") from None


def environment() -> dict[str, Any]:
    """Where a run took place: versions, processor, threads, git state and date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git": _git_state(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_state() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
