"""What the verbs of the command line take: a dataclass each, whose docstrings are the help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from binarch.models import NetworkConfig
from binarch.nn import Binarize
from binarch.search import SearchConfig
from binarch.training import TrainConfig

Resume = Literal["no", "auto"]


@dataclass(frozen=True)
class Output:
    """Where a run goes and what is printed."""

    out: Path
    """Folder of the run."""
    resume: Resume = "no"
    """auto: continue the run in --out where it stopped."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Demo:
    """Search, train and look at a 1-bit network on 8x8 digits, in minutes."""

    out: Path = Path("runs/demo")
    """Folder of the run."""
    resume: Resume = "no"
    """auto: continue the run in --out where it stopped."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Search:
    """Find cells: writes genotype.json, a drawing and report.html into the run folder."""

    output: Output
    config: SearchConfig
    recipe: str | None = None
    """Start from a recipe's settings (see: binarch list recipes)."""


@dataclass(frozen=True)
class Train:
    """Train a network; the test set is read once, after the last epoch."""

    arch: str
    """A published genotype, a genotype file, the folder of a search, or a network of the catalogue."""
    output: Output
    config: TrainConfig
    recipe: str | None = None
    """Start from a recipe's settings (see: binarch list recipes)."""


@dataclass(frozen=True)
class Evaluate:
    """Score a trained network on the test images."""

    run: tyro.conf.Positional[Path]
    """Folder of a training."""
    data: Path | None = None
    """Local copy of the data, if it lies elsewhere than in training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Pack:
    """Pack a trained network: one file with 1 bit per binary weight, run without torch."""

    run: tyro.conf.Positional[Path]
    """Folder of a training."""
    out: Path
    """File to write."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Describe:
    """Tell what a packed or trained network is: data, classes, accuracy, shape, costs."""

    source: tyro.conf.Positional[str]
    """A network that comes with binarch, a packed file, or the folder of a training."""
    json: bool = False
    """Print all of its card as JSON."""


@dataclass(frozen=True)
class Bench:
    """Time a packed network against other engines, taking turns in one process."""

    file: tyro.conf.Positional[str | None] = None
    """A network that comes with binarch, a packed file, a run folder, or what --arch takes."""
    arch: str | None = None
    """Random weights for this network: of the catalogue, a published name, a genotype file or folder."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    classes: int = 10
    """Number of classes, for random weights."""
    image_size: int = 32
    """Side of the images in pixels, for random weights."""
    threads: int = 1
    """Threads of every engine."""
    batch: int = 1
    """Images per run."""
    against: str | None = None
    """Engines, e.g. torch,onnxruntime (default: all that are installed)."""
    seconds: float = 20.0
    """How long they take turns, about."""
    cold: bool = False
    """Time import, load and first image in fresh processes too."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Export:
    """Write a packed or trained network for other engines, as a float graph."""

    source: tyro.conf.Positional[str]
    """A network that comes with binarch, a packed file, or the folder of a training."""
    out: Path
    """File to write."""
    format: Literal["onnx"] = "onnx"
    """Kind of file."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Reproduce:
    """Make a table of the supplement again (train its rows, write table.md and table.html), or its figures."""

    what: tyro.conf.Positional[Literal["table1", "table2", "figures"]]
    """table1: the binarization methods; table2: the searches; figures: cells (Fig. 1), operations (Fig. 2)."""
    out: Path
    """Folder of the runs and the table; what is finished there is kept."""
    rows: tuple[str, ...] = ()
    """Rows of the table (default: all; see: binarch list rows)."""
    recipes: tuple[Literal["own", "common"], ...] = ("own", "common")
    """table1: own: the method's published recipe; common: one recipe and network for all."""
    modes: tuple[Literal["published", "real", "binary"], ...] = ("published", "real", "binary")
    """table2: published cells trained anew; cells of our own searches, real-valued or binary."""
    workers: int = 1
    """table2: candidates that a search trains at a time."""
    budget: Literal["smoke", "cpu", "paper"] = "cpu"
    """smoke: seconds a row; cpu: minutes a run, small; paper: the real thing, for a GPU."""
    seeds: int = 0
    """Trainings of each row (0: 3, or 1 of table1's rows of more bits; 1 in smoke)."""
    dataset: str = "cifar10"
    """Images to train on."""
    data: Path | None = None
    """Local copy of the data."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    cells: tuple[Path, ...] = ()
    """figures: folders of searches, binary and real ones, for Fig. 1 (default: Fig. 2 alone)."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class Draw:
    """Draw both cells of a genotype, with depth and kernel statistics."""

    arch: tyro.conf.Positional[str]
    """A published name, a genotype file, a run folder, or a packed network of cells."""
    out: Path = Path("cells.svg")
    """File to write: .svg, .png or .pdf."""
    space: Literal["bats", "darts", "nasnet"] | None = None
    """Name the operations as this space means them."""


@dataclass(frozen=True)
class Count:
    """Count parameters, multiply-accumulates and bytes of a network, auxiliary head left out."""

    arch: str
    """A published genotype, a genotype file, a run folder, or a network of the catalogue."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    binarize: Binarize | None = None
    """What carries few bits (default: both; none outside the bats space)."""
    classes: int = 10
    """Number of classes."""
    image_size: int = 32
    """Side of the images in pixels."""
    layers: bool = False
    """Print a line per layer: bits, weights, multiply-accumulates, bytes."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class List:
    """List what has a name."""

    what: tyro.conf.Positional[
        Literal["networks", "archs", "models", "schemes", "spaces", "strategies", "recipes", "rows", "datasets"]
    ]
    """What to list."""
    json: bool = False
    """Print as JSON."""
