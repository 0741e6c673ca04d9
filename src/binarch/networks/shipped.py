"""The networks that come with the package, by name.

``NAME/network.safetensors`` is the packed program, whose own card says what the network is: classes, data, accuracy,
scheme, genotype, costs. ``NAME/identity.json`` lies beside it for what a file cannot say of itself (its SHA-256, the
logits it gives) and what nobody needs to run it (the training's settings, machine and date; accuracy by class).
``NAME/README.md`` is written from both by :func:`~binarch.networks.model_card.model_card`.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from binarch.errors import UserError
from binarch.runtime import Network, Program
from binarch.runtime import load as load_file

#: Most bytes of a packed file that the package carries.
LARGEST_FILE = 1_000_000
_HERE = Path(__file__).parent


@final
@dataclass(frozen=True)
class Shipped:
    """One network: a folder of the package, named like it."""

    folder: Path

    @property
    def name(self) -> str:
        """What :func:`find` knows it by."""
        return self.folder.name

    @property
    def file(self) -> Path:
        """The packed program."""
        return self.folder / "network.safetensors"

    @cached_property
    def program(self) -> Program:
        """The program, read and checked; its ``card`` says what the network is."""
        return Program.load(self.file)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What lies beside the file.

        ``what`` (one line for people), ``sha256`` and ``bytes`` of the file, ``config`` (the training's, whole),
        ``taught_by`` and ``filtered_by`` (SHA-256 of its teacher's and its proxy's weights, where it had them),
        ``trained`` and ``packed`` (machine, versions and date of each), ``data`` (name, description, counts of images),
        ``accuracy_by_class`` (of the packed file on the test images, as is ``test_accuracy`` of its card),
        ``accuracy_in_training`` (what the training measured, on its device), ``probe_logits`` (of :func:`probes`).
        """
        return dict(json.loads((self.folder / "identity.json").read_text(encoding="utf-8")))

    def summary(self) -> dict[str, Any]:
        """What a list of networks tells of it."""
        card = self.program.card
        return {
            "data": card["data"],
            "test_accuracy": card["test_accuracy"],
            "bytes": self.identity["bytes"],
            "what": self.identity["what"],
        }


def shipped() -> dict[str, Shipped]:
    """All networks of the package by name; reads no file yet."""
    folders = sorted(file.parent for file in _HERE.glob("*/identity.json"))
    return {folder.name: Shipped(folder) for folder in folders}


def find(source: str | Path) -> Path:
    """The packed file that ``source`` names: a network of the package, or else a file; a :class:`UserError` if none.

    Only a text is a name: ``./digits``, or a ``Path``, is a file.
    """
    known = shipped()
    if isinstance(source, str) and source in known:
        return known[source].file
    if not Path(source).is_file():
        what = "is a folder" if Path(source).is_dir() else "no such file, and no network of that name"
        raise UserError(
            f"{source}: {what}; give a file that binarch pack wrote, or one of the networks that come with binarch: "
            f"{', '.join(known)}"
        )
    return Path(source)


def load(source: str | Path, threads: int = 1) -> Network:
    """A network of the package by its name, or the one in a packed file, ready to run."""
    return load_file(find(source), threads)
