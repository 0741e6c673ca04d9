"""The command line: one function per verb, typed by dataclasses. No logic of its own."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from binarch import __version__, deploy
from binarch.arguments import (
    Bench,
    Count,
    Demo,
    Describe,
    Draw,
    Evaluate,
    Export,
    List,
    Output,
    Pack,
    Reproduce,
    Search,
    Train,
)
from binarch.data import CATALOGUE, load
from binarch.demo import run_demo
from binarch.errors import UserError, choose
from binarch.help import parsed
from binarch.models import MODELS, NetworkConfig, costs, find_architecture
from binarch.networks import shipped
from binarch.nn import SCHEMES
from binarch.predict import Predict, predict
from binarch.ranks import Ranks
from binarch.recipes import RECIPES
from binarch.report import save_drawing, write_report
from binarch.reproduce import ROWS, SYSTEMS, reproduce_figures, reproduce_table1, reproduce_table2
from binarch.runs import RunFolder, write_atomic
from binarch.search import STRATEGIES, SearchConfig, search
from binarch.spaces import PUBLISHED, SPACES
from binarch.training import Display, Interrupted, TrainConfig, evaluate_run, train


def _demo(args: Demo, display: Display) -> None:
    result = run_demo(args.out, args.device, display, resume=args.resume == "auto")
    _print(result, args.json)


def _search(args: Search, display: Display) -> None:
    dataset = load(args.config.data)
    folder = RunFolder(args.output.out, Ranks.started())
    genotype = search(args.config, dataset, folder, display, resume=args.output.resume == "auto")
    found = folder.read_json("result.json")
    if not folder.ranks.first:
        return
    save_drawing(genotype, folder / "cells.svg", args.config.space)
    report = write_report(folder.path)
    result = {
        "genotype": str(folder / "genotype.json"),
        "drawing": str(folder / "cells.svg"),
        "report": str(report),
    }
    _print({**_summary(found), **result}, args.output.json)


def _train(args: Train, display: Display) -> None:
    arch = find_architecture(args.arch)
    usual = RECIPES[args.recipe].train.network if args.recipe else NetworkConfig()
    args.config.network.refuse_idle(arch, usual)
    dataset = load(args.config.data)
    folder = RunFolder(args.output.out, Ranks.started())
    result = train(arch, args.config, dataset, folder, display, resume=args.output.resume == "auto")
    if not folder.ranks.first:
        return
    if not isinstance(arch, str):
        save_drawing(arch, folder / "cells.svg", args.config.network.space)
    report = write_report(folder.path)
    _print(
        {**_summary(result), "weights": str(folder / "network.safetensors"), "report": str(report)},
        args.output.json,
    )


def _evaluate(args: Evaluate, display: Display) -> None:
    _print(evaluate_run(RunFolder(args.run), args.data, args.device), args.json)


def _pack(args: Pack, display: Display) -> None:
    program = deploy.pack_run(RunFolder(args.run))
    content = program.encode()
    write_atomic(args.out, content)
    costs = program.card["costs"]
    floats = 4 * (costs["params"] + costs["output_scales"])
    size = {"bytes": len(content), "bytes_as_float32": floats, "share": len(content) / floats}
    _print({"file": str(args.out), **size}, args.json)


def _predict(args: Predict, display: Display) -> None:
    predict(args, display.say)


def _describe(args: Describe, display: Display) -> None:
    program = deploy.open_program(args.source)
    card, image = program.card, program.image
    if args.json:
        _print({**card, "image": {"height": image.height, "width": image.width, "channels": image.channels}}, True)
        return
    told = {name: card[name] for name in ("scheme", "data", "test_accuracy") if name in card}
    told |= {"seed": str(card["seed"])} if "seed" in card else {}
    if "network" in card:
        told["network"] = ", ".join(f"{name} {value}" for name, value in card["network"].items() if value is not None)
    told |= {"classes": ", ".join(program.classes), "image": f"{image.height} x {image.width} x {image.channels}"}
    counted = {name: count for name, count in card.get("costs", {}).items() if name != "bytes_packed"}
    _print({**told, "bytes": len(program.encode()), **counted}, as_json=False)


def _bench(args: Bench, display: Display) -> None:
    if (args.file is None) == (args.arch is None):
        raise UserError("bench: give a packed file, or an architecture with --arch; one of them")
    if not args.seconds >= 0:
        raise UserError(f"seconds: {args.seconds} is not possible; use 0 (one round) or more")
    shape = {"classes": args.classes, "image_size": args.image_size}
    if args.arch is not None:
        program = deploy.random_program(args.arch, args.network, **shape)
    else:
        program = deploy.find_program(str(args.file), args.network, **shape)
    engines = (
        [name for name in deploy.ENGINES if name != "binarch"]
        if args.against is None
        else args.against.replace(" ", "").split(",")
    )
    found = deploy.bench(
        program, engines, threads=args.threads, batch=args.batch, seconds=args.seconds, say=display.say
    )
    cold = deploy.cold_start(program) if args.cold else None
    if args.json:
        _print({**found.to_dict(), **({"cold": cold.to_dict()} if cold else {})}, as_json=True)
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(deploy.tell(found), markup=False)
    if cold is not None:
        console.print(deploy.tell_cold(cold), markup=False)


def _export(args: Export, display: Display) -> None:
    program = deploy.open_program(args.source)
    model = deploy.to_onnx(program)
    write_atomic(args.out, model)
    _print({"file": str(args.out), "bytes": len(model), **deploy.check_onnx(model, program)}, args.json)


def _reproduce(args: Reproduce, display: Display) -> None:
    shared = ("rows", "budget", "seeds", "dataset", "data", "device")
    owners: dict[str, tuple[str, ...]] = {
        "recipes": ("table1",),
        "modes": ("table2",),
        "workers": ("table2",),
        "cells": ("figures",),
    }
    owners |= dict.fromkeys(shared, ("table1", "table2"))
    for field in fields(args):
        allowed = owners.get(field.name, (args.what,))
        if args.what not in allowed and getattr(args, field.name) != field.default:
            raise UserError(f"--{field.name}: is for {' and '.join(allowed)}; leave it out with {args.what}")
    if args.what == "figures":
        _print(reproduce_figures(args.out, args.cells, display), args.json)
        return
    asked: dict[str, Any] = {name: getattr(args, name) for name in shared}
    if args.what == "table1":
        result = reproduce_table1(args.out, recipes=args.recipes, display=display, **asked)
    else:
        result = reproduce_table2(args.out, modes=args.modes, workers=args.workers, display=display, **asked)
    if args.json:
        _print(result, as_json=True)
        return
    print((args.out / "table.md").read_text(encoding="utf-8"))


def _draw(args: Draw, display: Display) -> None:
    save_drawing(deploy.genotype_of(args.arch), args.out, args.space, title=args.arch)
    display.say(f"Drawn: {args.out}")


def _count(args: Count, display: Display) -> None:
    for name, value, least in (("classes", args.classes, 1), ("image_size", args.image_size, 4)):
        if value < least:
            raise UserError(f"{name}: {value} is not possible; use {least} or more")
    arch = find_architecture(args.arch)
    args.network.refuse_idle(arch)
    real = args.network.space != "bats" and not isinstance(arch, str)
    network = args.network.build(arch, args.classes, args.binarize or ("none" if real else "both"), args.image_size)
    if args.layers:
        layers = deploy.summarise(network, args.image_size)
        if args.json:
            _print(layers.to_dict(), as_json=True)
        else:
            _print_table(deploy.tell_layers(layers))
        return
    _print(costs(network, args.image_size).to_dict(), args.json)


def _list(args: List, display: Display) -> None:
    if args.what == "schemes":
        _list_schemes(args.json)
        return
    if args.what == "networks":
        _list_networks(args.json)
        return
    names: Mapping[str, str] = {
        "archs": {name: entry.description for name, entry in PUBLISHED.items()},
        "models": {name: f"{model.description}; width {model.width}" for name, model in MODELS.items()},
        "spaces": {name: space.description for name, space in SPACES.items()},
        "strategies": {name: strategy.description for name, strategy in STRATEGIES.items()},
        "recipes": {name: recipe.description for name, recipe in RECIPES.items()},
        "rows": {
            **{name: f"table1: {row.method}, {row.bits}" for name, row in ROWS.items()},
            **{name: f"table2: {system.method}; {' '.join(system.modes)}" for name, system in SYSTEMS.items()},
        },
        "datasets": dict(CATALOGUE),
    }[args.what]
    _print(names, args.json)


def _list_schemes(as_json: bool) -> None:
    columns = ("name", "weights", "activations", "learns", "published", "method")
    rows = [(s.name, *s.bits, s.learns, s.published, s.title) for s in SCHEMES.values()]
    if as_json:
        _print({row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}, as_json=True)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    _print_table(table)


def _list_networks(as_json: bool) -> None:
    found = {name: network.summary() for name, network in shipped().items()}
    if as_json:
        _print(found, as_json=True)
        return
    table = Table("name", "data", "accuracy", "size", "what", box=None, pad_edge=False)
    for name, facts in found.items():
        accuracy, size = f"{facts['test_accuracy']:.2%}", f"{facts['bytes'] / 1e3:,.0f} kB"
        table.add_row(*map(escape, (name, facts["data"], accuracy, size, facts["what"])))
    _print_table(table)


VERBS: dict[str, tuple[type, Callable[[Any, Display], None]]] = {
    "demo": (Demo, _demo),
    "search": (Search, _search),
    "train": (Train, _train),
    "evaluate": (Evaluate, _evaluate),
    "pack": (Pack, _pack),
    "predict": (Predict, _predict),
    "describe": (Describe, _describe),
    "bench": (Bench, _bench),
    "export": (Export, _export),
    "reproduce": (Reproduce, _reproduce),
    "draw": (Draw, _draw),
    "count": (Count, _count),
    "list": (List, _list),
}


#: Verbs whose work several ranks can share.
SHARED = ("search", "train")


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
                table.add_row(escape(inner.replace("_", " ")), escape(_text(inner, number)))
        else:
            shown = name.replace("_", " ") if isinstance(value, int | float) else name
            table.add_row(escape(shown), escape(_text(name, value)))
    Console(highlight=False).print(table)


def _print_table(table: Table) -> None:
    """Print all of it, however wide the terminal is."""
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table, soft_wrap=True)


def _text(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2%}" if name.endswith(("accuracy", "share")) else f"{value:,.4g}"
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
    return parsed(verb, kind, arguments, default)


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
        ranks = Ranks.started()
        display = Display(silent=not ranks.first)
        verb = choose("verb", arguments[0], VERBS)
        if ranks.world > 1 and verb not in SHARED:
            raise UserError(f"{verb}: cannot be shared by {ranks.world} ranks; start it without torchrun")
        with ranks.joined():
            VERBS[verb][1](_parse(verb, arguments[1:]), display)
    except UserError as error:
        Display().say(f"binarch: {error}")
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as error:
        how = "" if verb == "reproduce" else " with --resume auto"
        saved = f" The state is saved: the same command{how} continues." * isinstance(error, Interrupted)
        display.say(f"binarch: interrupted.{saved}")
        sys.exit(130)
