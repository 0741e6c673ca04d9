"""Put a trained network into the package: from a finished run folder to ``src/binarch/networks/NAME``.

    python tools/ship.py runs/train digits --what "Handwritten digits, 0 to 9"

Packs the run, asks the packed file and the trained network about all test images, and writes the file, its identity
and its model card. The accuracy on the card is that of the packed file. Nothing is written if the file is too large, if
one answer differs from the trained network's, or if the accuracy is far from what the training measured (on a GPU, say,
and in another precision); the reason is one line.
"""

import hashlib
import json
import re
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from binarch import networks
from binarch.data import CATALOGUE, Dataset, evaluation_batches, load
from binarch.deploy import pack_run
from binarch.errors import UserError
from binarch.models import MODELS
from binarch.networks import Shipped, model_card, probes
from binarch.networks.shipped import LARGEST_FILE
from binarch.runs import RunFolder, environment, write_atomic
from binarch.runtime import Network, Program, reference
from binarch.spaces import PUBLISHED
from binarch.training import load_network
from binarch.training.trained import settings_of

#: How far the accuracy may be from the training's, which may have been measured in another precision.
TOLERANCE = 0.005
#: The networks that a training asked, and where the hashes of their weights stand.
BESIDE = {"teacher": "taught_by", "proxy": "filtered_by"}


@dataclass(frozen=True)
class Ship:
    """What to ship, and as what."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished training."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Small letters, digits and dashes."""
    what: str
    """What it tells apart, for people: one line without a full stop."""
    data: Path | None = None
    """Local copy of the data, if it lies elsewhere than in training."""
    into: Path = Path(networks.__file__).parent
    """Folder of the networks."""


def ship(args: Ship) -> Shipped:
    """Check everything, then write ``into/name``; a :class:`UserError` says what cannot be shipped."""
    check_name(args.name, args.what)
    folder = RunFolder(args.run)
    program = pack_run(folder)
    if (size := len(program.encode())) > LARGEST_FILE:
        raise UserError(f"{args.run}: packs to {size:,} bytes; at most {LARGEST_FILE:,} are shipped")
    dataset = read_data(folder, args.data)
    if program.card["data"] != dataset.name:
        raise UserError(f"--data {args.data}: is {dataset.name}, the network was trained on {program.card['data']}")
    answers = check_answers(folder, program, dataset)
    accuracy = float((answers == dataset.test().labels.numpy()).mean())
    content = replace(program, card={**program.card, "test_accuracy": accuracy}).encode()
    identity = {
        "what": args.what,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "data": about(dataset),
        "accuracy_in_training": program.card["test_accuracy"],
        "accuracy_by_class": by_class(answers, dataset),
        "probe_logits": probe_logits(program),
        "config": settings(folder, dataset.name),
        **{name: value for name, value in folder.settings().items() if name in BESIDE.values()},
        "trained": folder.read_json("env.json"),
        "packed": {**environment(), **{name: version(name) for name in ("binarch", "numpy", "numba")}},
    }
    shipped = Shipped(args.into / args.name)
    write_atomic(shipped.file, content)
    write_atomic(shipped.folder / "identity.json", json.dumps(identity, indent=1) + "\n")
    write_atomic(shipped.folder / "README.md", model_card(shipped))
    return shipped


def check_name(name: str, what: str) -> None:
    """Refuse names that a command line would take for something else, and descriptions that are no line."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or name in {*MODELS, *PUBLISHED}:
        raise UserError(f"NAME: {name!r} is not possible; small letters, digits and dashes, no model's or cell's name")
    if not what.strip() or "\n" in what or what.endswith("."):
        raise UserError(f"--what {what!r}: is not possible; one line without a full stop")


def read_data(folder: RunFolder, data: Path | None) -> Dataset:
    """The images of the training, normalised as it did."""
    _, config = load_network(folder)
    known = folder.read_json("result.json")
    if "test_accuracy" not in known:
        raise UserError(f"{folder.path}: has no test accuracy; train on data with test images")
    where = config.data.data if data is None else data
    found = load(replace(config.data, image_size=known["image_size"], data=where))
    if list(found.classes) != known["classes"]:
        raise UserError(f"--data {where}: has other classes than the training; give the data of the training")
    return Dataset(found.name, found.classes, found.train, tuple(known["mean"]), tuple(known["std"]), found.test)


def check_answers(folder: RunFolder, program: Program, dataset: Dataset) -> np.ndarray:
    """The packed network's class of each test image; refuse if the trained one differs, or the accuracy is far off."""
    images = dataset.test()
    packed = Network(program).run(images.pixels.permute(0, 2, 3, 1).numpy())
    network = load_network(folder)[0].eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        batches = evaluation_batches(images, dataset.mean, dataset.std, 250)
        trained = torch.cat([network(x.contiguous(memory_format=torch.channels_last)) for x, _ in batches]).numpy()
    answers = packed.argmax(1)
    if different := int((answers != trained.argmax(1)).sum()):
        raise UserError(f"{folder.path}: {different} of {len(images)} packed answers differ from the trained network's")
    accuracy, stated = float((answers == images.labels.numpy()).mean()), program.card["test_accuracy"]
    if abs(accuracy - stated) > TOLERANCE:
        raise UserError(f"{folder.path}: answers {accuracy:.2%} of the test images, its training says {stated:.2%}")
    return answers


def about(dataset: Dataset) -> dict[str, Any]:
    """Name, description and counts of the images."""
    counts = {"train_images": len(dataset.train), "test_images": len(dataset.test())}
    return {"name": dataset.name, "about": CATALOGUE.get(dataset.name, f"{len(dataset.classes)} classes"), **counts}


def by_class(answers: np.ndarray, dataset: Dataset) -> list[float | None]:
    """The share of each class's test images that are answered correctly; None where a class has none."""
    labels = dataset.test().labels.numpy()
    known = [answers[labels == label] == label for label in range(len(dataset.classes))]
    return [float(right.mean()) if len(right) else None for right in known]


def probe_logits(program: Program) -> list[list[float]]:
    """Logits of the probes; refuse if the kernels and the plain reference differ in one bit."""
    network = Network(program)
    images = probes(network.size)
    logits = network.run(images)
    plain = reference.run(program, images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    if logits.tobytes() != plain.tobytes():
        raise UserError("probes: the fast kernels and the plain reference differ; this must not be shipped")
    return [[float(number) for number in row] for row in logits]


def settings(folder: RunFolder, dataset: str) -> dict[str, Any]:
    """The architecture's name and all settings of the training, without the folder of its images.

    In the place of a teacher's or a proxy's folder stands the hash of its weights. ``dataset`` is what was found in the
    folder of the images, which was read whatever set was named beside it.
    """
    plain = folder.settings()
    config = settings_of(plain)
    named = {"arch": plain["arch"]} if "arch" in plain else {}
    asked = {flag: plain[key] for flag, key in BESIDE.items() if key in plain}
    return {**config, **asked, **named, "data": {**config["data"], "dataset": dataset, "data": None}}


def main(argv: list[str] | None = None) -> None:
    """Ship; exit 2 with one line if that is not possible."""
    try:
        shipped = ship(tyro.cli(Ship, args=argv))
    except UserError as error:
        print(f"ship: {error}", file=sys.stderr)
        sys.exit(2)
    facts = shipped.summary()
    print(
        f"{shipped.file}: {facts['bytes']:,} bytes, {facts['test_accuracy']:.2%} of the test images of {facts['data']}"
    )


if __name__ == "__main__":
    main()
