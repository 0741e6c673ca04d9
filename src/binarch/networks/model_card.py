"""The page about a shipped network that people read, written from what its files say."""

from collections.abc import Iterable, Mapping
from textwrap import fill
from typing import Any

from binarch.networks.shipped import Shipped

_STAGES = {
    "none": "with real numbers",
    "activations": "with quantized activations",
    "both": "with quantized activations and weights",
    "mine": "of mining interactions",
}


def model_card(network: Shipped) -> str:
    """Markdown: what the network is for, how it was trained, how good it is, what it cannot do, its licence."""
    program, identity = network.program, network.identity
    card, data, image = program.card, identity["data"], program.image
    classes = zip(program.classes, identity["accuracy_by_class"], strict=True)
    lines = [
        f"# {network.name}",
        "<!-- Written by tools/ship.py from network.safetensors and identity.json; change those, not this. -->",
        f"{identity['what']}.",
        f"    binarch predict {network.name} photo.png",
        _table(("", ""), _facts(network)),
        f"**Training.** {data['train_images']:,} images of {data['name']} ({data['about']}), of which a share of "
        f"{identity['config']['validation']:.0%} was held out for validation.{_hard(identity['config'])}"
        f"{_taught(identity['config'])} {_stages(identity['config'])}; seed "
        f"{card['seed']}; all settings are in `identity.json` (`config`). The test images were read after the last "
        "epoch, and once more for this file; nothing was decided by them.",
        f"**Accuracy** of this very file: {card['test_accuracy']:.2%} of {data['test_images']:,} test images.",
        _table(("class", "correct"), ((name, "-" if share is None else f"{share:.1%}") for name, share in classes)),
        f"**Limits.** It knows {len(program.classes)} classes and always answers with them: a picture of anything else "
        "gets one of these names too, and a high probability is no proof. A picture is reduced to its largest centred "
        f"square, scaled to {image.height} x {image.width} pixels; what is small, off the centre or unlike the "
        "training images is missed. One seed, one data set, no test on others. Not for decisions about people.",
        "**Licence.** The weights are under the MIT licence, as binarch is. The images are not part of it.",
        f"SHA-256 `{identity['sha256']}`",
    ]
    wrapped = (fill(part, 120, break_on_hyphens=False) if part.startswith("**") else part for part in lines)
    return "\n\n".join(wrapped) + "\n"


def _facts(network: Shipped) -> Iterable[tuple[str, str]]:
    identity, card = network.identity, network.program.card
    costs, image = card["costs"], network.program.image
    shape = ", ".join(f"{name} {value}" for name, value in card["network"].items() if value is not None)
    yield "network", shape
    yield "scheme", str(card["scheme"])
    if "genotype" in card:
        yield "genotype", f"in the file's card: `binarch draw {network.name}` shows its cells"
    yield "images", f"{image.height} x {image.width}, {image.channels} channels"
    yield "file", f"{identity['bytes']:,} bytes"
    yield "parameters", f"{costs['params']:,}, of which {costs['binary_params']:,} quantized"
    yield "multiply-accumulates", f"{costs['macs']:,}, of which {costs['binary_macs']:,} of quantized numbers"
    for name in ("trained", "packed"):
        where = identity[name]
        yield name, f"{where['date'][:10]}, Python {where['python']}, torch {where['torch']}, {where['cpu']}"


def _stages(config: Mapping[str, Any]) -> str:
    kinds, epochs = config["binarize"], config["epochs"]
    epochs = epochs * len(kinds) if len(epochs) == 1 else epochs
    parts = (f"{count} {_STAGES[kind]}" for kind, count in zip(kinds, epochs, strict=True))
    return "Epochs: " + ", then ".join(parts)


def _hard(config: Mapping[str, Any]) -> str:
    """What share was learned from, where an earlier network chose."""
    keep = config.get("keep", 1)
    return "" if keep == 1 else f" Of the rest, {keep:.0%} were learned from: those an earlier network found hardest."


def _taught(config: Mapping[str, Any]) -> str:
    """What share of the loss another network's answers were."""
    taught = config.get("teacher") is not None
    return f" A teacher's answers were {config['teacher_weight']:.0%} of the loss." if taught else ""


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])
