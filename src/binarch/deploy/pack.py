"""A finished training run to a packed program."""

from typing import Any

from binarch.deploy.lower import pack_network
from binarch.models import costs
from binarch.runs import RunFolder
from binarch.runtime.program import Program
from binarch.training import load_network

#: What a card says of a network of cells besides the genotype.
_CELLS = ("space", "cells", "channels", "groups", "stem", "scheme")


def pack_run(folder: RunFolder) -> Program:
    """Pack the network of a training run, with a card that says where it comes from."""
    network, config = load_network(folder)
    known = folder.read_json("result.json")
    size = known["image_size"]
    plain = folder.settings()
    shape: dict[str, Any]
    if "arch" in plain:
        scheme = f"{config.network.scheme}: {config.stages[-1].name}"
        shape = {"network": {"arch": plain["arch"], "width": config.network.width, "scheme": config.network.scheme}}
    else:
        method = "" if config.network.scheme == "bats" else f", {config.network.scheme}"
        scheme = f"{config.network.space} space{method}: {config.stages[-1].name}"
        cells = {name: getattr(config.network, name) for name in _CELLS}
        shape = {"genotype": folder.read_json("genotype.json"), "network": cells}
    card = {
        "classes": known["classes"],
        "data": known.get("dataset", config.data.dataset),
        "test_accuracy": known.get("test_accuracy"),
        "scheme": scheme,
        **shape,
        "seed": config.seed,
        "costs": costs(network, size).to_dict(),
    }
    return pack_network(network, size=(size, size), mean=known["mean"], std=known["std"], card=card)
