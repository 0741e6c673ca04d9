"""Tables of encoded images: parquet files, and sets of the Hugging Face hub.

Sets of the hub are downloaded by ``datasets`` to its usual cache, once. Parquet files are read directly,
and ``datasets`` only tells their column types. Its loader reports every use to a server, even of local files,
leaves a lock file or a cached copy that goes stale when the folder changes, and, when it streams, reads ahead
in threads that can keep a process from ending. Only the columns in use are read.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from binarch.data.source import TEST_NAMES, Source, Split, split_named
from binarch.errors import UserError
from binarch.pictures import Picture

_ROWS = 256
#: All cells of the column of that name, in order.
Reader = Callable[[str], Iterator[Any]]


@final
class TableSplit(Split):
    """Two columns of a table: encoded images and labels.

    ``classes`` is what the label column's values mean, by position; see :func:`_values`.
    """

    def __init__(self, where: str, read: Reader, image: str, label: str, classes: list[Any]) -> None:
        self._where = where
        self._read = read
        self._image = image
        self._label = label
        self._classes = {value: index for index, value in enumerate(classes)}

    @property
    def labels(self) -> Tensor:
        """The label column, as indices of classes."""
        labels = []
        for row, value in enumerate(self._column(self._label)):
            if value not in self._classes:
                raise UserError(
                    f"{self._where}, row {row}: label {value!r} is none of the {len(self._classes)} classes "
                    "of training; mend or remove the row"
                )
            labels.append(self._classes[value])
        return torch.tensor(labels, dtype=torch.int64)

    def pictures(self, wanted: Tensor) -> Iterator[Picture]:
        """The image column; rows in between are passed over without decoding."""
        remaining = iter(wanted.tolist())
        target = next(remaining, None)
        for row, cell in enumerate(self._column(self._image)):
            if target is None:
                return
            if row == target:
                yield Picture(f"{self._where}, row {row}", _content(cell))
                target = next(remaining, None)

    def _column(self, name: str) -> Iterator[Any]:
        with _reading(self._where):
            yield from self._read(name)


def open_parquet(path: Path, files: list[Path], name: str) -> Source:
    """Parquet files as the hub lays them out: ``train-*.parquet`` and ``test-*.parquet``, at any depth."""
    import datasets
    from pyarrow.parquet import read_schema  # type: ignore[import-untyped]

    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_name(file.relative_to(path)), []).append(file)
    with _reading(str(path)):
        features = datasets.Features.from_arrow_schema(read_schema(splits.get("train", files)[0]))
    return _source(name, str(path), features, {split: partial(_cells_of_files, splits[split]) for split in splits})


def open_hub(hub_name: str, name: str) -> Source:
    """A set of the hub, by its name there; fetched into the cache of ``datasets`` if it is not there yet."""
    import datasets

    if Path(hub_name).exists():
        raise UserError(f"data {hub_name!r}: this is a local path; give it as --data {hub_name}")
    try:
        with _quiet():
            table = datasets.load_dataset(hub_name)
    except Exception as error:  # the hub client raises many unrelated types
        raise UserError(
            f"data {hub_name!r}: could not be fetched from the Hugging Face hub ({_reason(error)}); check "
            "the name and the network, or use --data PATH with class folders or train-*.parquet files"
        ) from None
    features = table["train" if "train" in table else next(iter(table))].features
    return _source(name, hub_name, features, {split: partial(_cells_of_table, table[split]) for split in table})


def _cells_of_files(files: list[Path], column: str) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    for file in files:
        with ParquetFile(file) as table:
            for batch in table.iter_batches(_ROWS, columns=[column]):
                yield from batch[column].to_pylist()


def _cells_of_table(table: Any, column: str) -> Iterator[Any]:
    """In the arrow format, images stay encoded."""
    for batch in table.select_columns([column]).with_format("arrow").iter(_ROWS):
        yield from batch[column].to_pylist()


def _source(name: str, where: str, features: Any, splits: dict[str, Reader]) -> Source:
    """Find the columns, and the classes in the train split."""
    if "train" not in splits:
        raise UserError(f"data {where}: no train split among {', '.join(sorted(splits))}; choose a set that has one")
    image, label = _image_column(features, where), _label_column(features, where)
    values, classes = _values(features[label], partial(splits["train"], label), f"{where}, split train")

    def part(split: str) -> TableSplit:
        return TableSplit(f"{where}, split {split}", splits[split], image, label, values)

    held_out = next((split for split in TEST_NAMES if split in splits), None)
    return Source(name, classes, part("train"), None if held_out is None else part(held_out))


def _image_column(features: Any, where: str) -> str:
    import datasets

    found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(found) != 1:
        raise UserError(
            f"data {where}: {len(found)} image columns among {', '.join(features)}; exactly one must have "
            "the type datasets.Image"
        )
    return found[0]


def _label_column(features: Any, where: str) -> str:
    """The column of type ClassLabel, or else of integers or strings; ``label``, ``fine_label`` win."""
    import datasets

    named = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if _is_plain(feature)]
    found = named or plain
    for name in ("label", "fine_label"):
        if name in found:
            return name
    if len(found) != 1:
        raise UserError(
            f"data {where}: {len(found)} columns could be the label ({', '.join(found) or 'none'}); "
            "call the right one 'label', or give it the type datasets.ClassLabel"
        )
    return found[0]


def _is_plain(feature: Any) -> bool:
    return re.fullmatch(r"u?int\d+|(large_)?string", str(getattr(feature, "dtype", ""))) is not None


def _values(feature: Any, read: Callable[[], Iterator[Any]], where: str) -> tuple[list[Any], tuple[str, ...]]:
    """What the label column may hold, sorted, and the classes' names."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return list(range(len(feature.names))), tuple(feature.names)
    with _reading(where):
        seen = set(read())
    if None in seen:
        raise UserError(f"{where}: the label column has empty cells; every image needs a label")
    values = sorted(seen)
    return values, tuple(str(value) for value in values)


def _split_name(relative: Path) -> str:
    """The split that a file's name, or a folder on the way to it, begins with; ``train`` if none does."""
    for part in reversed(relative.parts):
        if name := split_named(part):
            return name
    return "train"


def _content(cell: Any) -> Path | bytes | None:
    """An Image cell is a struct of ``bytes`` and ``path``; the bytes win, as in ``datasets``."""
    if cell is None or isinstance(cell, bytes):
        return cell
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    return Path(cell["path"]) if cell.get("path") else None


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn what goes wrong inside ``datasets`` and below into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # pyarrow, fsspec and datasets share no base class
        raise UserError(f"data {where}: cannot be read ({_reason(error)}); fetch or write the files again") from None


def _reason(error: Exception) -> str:
    # The first cause says what happened; what wraps it only says that something did.
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars from ``datasets``, no tale of retries; whatever was set before is restored."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown, logger = not are_progress_bars_disabled(), logging.getLogger("huggingface_hub")
    level = logger.level
    disable_progress_bars()
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()
