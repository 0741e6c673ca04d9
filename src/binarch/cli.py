"""The command line: one function per verb, typed by dataclasses. No logic of its own."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from binarch import __version__
from binarch.data import CATALOGUE, load
from binarch.demo import run_demo
from binarch.errors import UserError, choose
from binarch.help import verb_help
from binarch.models import NetworkConfig, costs
from binarch.nn import Binarize
from binarch.recipes import RECIPES
from binarch.report import save_drawing, write_report
from binarch.runs import RunFolder
from binarch.search import STRATEGIES, SearchConfig, search
from binarch.spaces import PUBLISHED, SPACES, find_genotype
from binarch.training import Display, Interrupted, TrainConfig, evaluate_run, train

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
    """Train the network of a genotype; the test set is read once, after the last epoch."""

    arch: str
    """A published name, a genotype file, or the folder of a search."""
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
class Draw:
    """Draw both cells of a genotype, with depth and kernel statistics."""

    arch: tyro.conf.Positional[str]
    """A published name, a genotype file, or a run folder."""
    out: Path = Path("cells.svg")
    """File to write: .svg, .png or .pdf."""
    space: Literal["bats", "darts"] | None = None
    """Name the operations as this space means them."""


@dataclass(frozen=True)
class Count:
    """Count parameters, multiply-accumulates and bytes of a network, auxiliary head left out."""

    arch: str
    """A published name, a genotype file, or a run folder."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    binarize: Binarize | None = None
    """What carries one bit (default: both in the bats space, none in darts)."""
    classes: int = 10
    """Number of classes."""
    image_size: int = 32
    """Side of the images in pixels."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class List:
    """List what has a name."""

    what: tyro.conf.Positional[Literal["archs", "spaces", "strategies", "recipes", "datasets"]]
    """What to list."""
    json: bool = False
    """Print as JSON."""


def _demo(args: Demo, display: Display) -> None:
    result = run_demo(args.out, args.device, display, resume=args.resume == "auto")
    _print(result, args.json)


def _search(args: Search, display: Display) -> None:
    dataset = load(args.config.data)
    folder = RunFolder(args.output.out)
    genotype = search(args.config, dataset, folder, display, resume=args.output.resume == "auto")
    save_drawing(genotype, folder / "cells.svg", args.config.space)
    report = write_report(folder.path)
    result = {
        "genotype": str(folder / "genotype.json"),
        "drawing": str(folder / "cells.svg"),
        "report": str(report),
    }
    _print({**_summary(folder.read_json("result.json")), **result}, args.output.json)


def _train(args: Train, display: Display) -> None:
    genotype = find_genotype(args.arch)
    dataset = load(args.config.data)
    folder = RunFolder(args.output.out)
    result = train(genotype, args.config, dataset, folder, display, resume=args.output.resume == "auto")
    save_drawing(genotype, folder / "cells.svg", args.config.network.space)
    report = write_report(folder.path)
    _print(
        {**_summary(result), "weights": str(folder / "network.safetensors"), "report": str(report)},
        args.output.json,
    )


def _evaluate(args: Evaluate, display: Display) -> None:
    _print(evaluate_run(RunFolder(args.run), args.data, args.device), args.json)


def _draw(args: Draw, display: Display) -> None:
    save_drawing(find_genotype(args.arch), args.out, args.space, title=args.arch)
    display.say(f"Drawn: {args.out}")


def _count(args: Count, display: Display) -> None:
    for name, value, least in (("classes", args.classes, 1), ("image_size", args.image_size, 4)):
        if value < least:
            raise UserError(f"{name}: {value} is not possible; use {least} or more")
    binarize = args.binarize or ("both" if args.network.space == "bats" else "none")
    network = args.network.build(find_genotype(args.arch), args.classes, binarize)
    _print(costs(network, args.image_size).to_dict(), args.json)


def _list(args: List, display: Display) -> None:
    names: Mapping[str, str] = {
        "archs": {name: entry.description for name, entry in PUBLISHED.items()},
        "spaces": {name: space.description for name, space in SPACES.items()},
        "strategies": {name: strategy.description for name, strategy in STRATEGIES.items()},
        "recipes": {name: recipe.description for name, recipe in RECIPES.items()},
        "datasets": dict(CATALOGUE),
    }[args.what]
    _print(names, args.json)


VERBS: dict[str, tuple[type, Callable[[Any, Display], None]]] = {
    "demo": (Demo, _demo),
    "search": (Search, _search),
    "train": (Train, _train),
    "evaluate": (Evaluate, _evaluate),
    "draw": (Draw, _draw),
    "count": (Count, _count),
    "list": (List, _list),
}


def _summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of ``result.json`` without its long parts."""
    return {name: value for name, value in result.items() if not isinstance(value, list)}


def _print(result: Mapping[str, Any], as_json: bool) -> None:
    """One result on standard output: JSON, or an aligned table."""
    if as_json:
        print(json.dumps(result, indent=1))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in result.items():
        if isinstance(value, Mapping):
            for inner, number in value.items():
                table.add_row(inner.replace("_", " "), _text(inner, number))
        else:
            table.add_row(name.replace("_", " ") if isinstance(value, int | float) else name, _text(name, value))
    Console(highlight=False).print(table)


def _text(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2%}" if name.endswith("accuracy") else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _default(kind: type, arguments: Sequence[str]) -> Any:
    """The settings of ``--recipe``, if one is named, as the defaults that other flags override."""
    name = None
    for position, argument in enumerate(arguments):
        if argument.startswith("--recipe="):
            name = argument.partition("=")[2]
        elif argument == "--recipe" and position + 1 < len(arguments):
            name = arguments[position + 1]
    config: Any = SearchConfig() if kind is Search else TrainConfig()
    if name is not None:
        recipe = RECIPES[choose("--recipe", name, RECIPES)]
        config = recipe.search if kind is Search else recipe.train
    output = Output(out=tyro.MISSING)
    return Search(output, config) if kind is Search else Train(tyro.MISSING, output, config)


def _parse(verb: str, arguments: Sequence[str]) -> Any:
    kind = VERBS[verb][0]
    default = _default(kind, arguments) if kind in (Search, Train) else None
    if {"-h", "--help"} & set(arguments):
        print(verb_help(verb, kind, default))
        sys.exit(0)
    extra = {} if default is None else {"default": default}
    return tyro.cli(kind, prog=f"binarch {verb}", args=arguments, config=(tyro.conf.OmitArgPrefixes,), **extra)


def _usage() -> str:
    lines = [f"  binarch {name:<9} {(kind.__doc__ or '').splitlines()[0]}" for name, (kind, _) in VERBS.items()]
    return "\n".join(
        [
            f"binarch {__version__}: search, train, measure and look at networks with 1-bit weights and activations",
            "",
            *lines,
            "",
            "`binarch VERB --help` tells the flags of a verb.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb; exit 0, 2 after the user's mistake, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    display = Display()
    try:
        verb = choose("verb", arguments[0], VERBS)
        VERBS[verb][1](_parse(verb, arguments[1:]), display)
    except UserError as error:
        display.say(f"binarch: {error}")
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as error:
        saved = " The state is saved: the same command with --resume auto continues." * isinstance(error, Interrupted)
        display.say(f"binarch: interrupted.{saved}")
        sys.exit(130)
