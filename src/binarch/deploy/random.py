"""Programs with random weights: the speed of an architecture can be measured before anything is trained."""

from dataclasses import replace

import torch
from torch import nn

from binarch.deploy.lower import pack_network
from binarch.errors import UserError
from binarch.models import NetworkConfig, costs, find_architecture
from binarch.nn import QuantLayer
from binarch.runtime.program import Program


def random_program(arch: str, config: NetworkConfig, *, classes: int, image_size: int, seed: int = 0) -> Program:
    """The packed network of ``arch`` (a name of the catalogue, or whatever names a genotype) with random weights.

    Norms get the statistics of noise and random scales and shifts, so that signs and thresholds are mixed as in a
    trained network. Binary in the ``bats`` space and with the scheme of ``config``, real in ``darts``.
    """
    for name, value, least in (("classes", classes, 1), ("image_size", image_size, 4)):
        if value < least:
            raise UserError(f"{name}: {value} is not possible; use {least} or more")
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        config = replace(config, auxiliary=False)  # a head for training only
        found = find_architecture(arch)
        config.refuse_idle(found)
        real = config.space != "bats" and not isinstance(found, str)
        network = config.build(found, classes, "none" if real else "both", image_size)
        randomise(network, image_size)
        card = {
            "classes": [str(number) for number in range(classes)],
            "scheme": f"{arch}, random weights",
            "costs": costs(network, image_size).to_dict(),
        }
        return pack_network(network, size=(image_size, image_size), mean=(0.5,) * 3, std=(0.25,) * 3, card=card)
    finally:
        torch.random.set_rng_state(state)


@torch.no_grad()
def randomise(network: nn.Module, image_size: int) -> None:
    """Random scales and slopes, then batch statistics of 16 noise images as those of every batch norm."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None  # an average over all batches seen: here, one
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.5)
        elif isinstance(module, nn.PReLU):
            module.weight.uniform_(0.0, 0.5)
        elif isinstance(module, QuantLayer) and module.scale is not None:
            module.scale.uniform_(0.5, 1.5)
    network.train()
    network(torch.rand(16, 3, image_size, image_size).sub(0.5).div(0.25))
    network.eval()
