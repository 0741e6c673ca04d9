"""What an optimizer must know of quantized layers: how long their steps are, and what follows a step."""

from typing import Any

from torch import nn

from binarch.nn.quant_conv import QuantConv2d
from binarch.nn.quant_layer import QuantLayer


def parameter_groups(
    network: nn.Module, learning_rate: float, weight_decay: float = 0.0, *, matrices: bool = False
) -> list[dict[str, Any]]:
    """The parameters in groups for an optimizer.

    Filters and matrices decay; norms, slopes, biases and scales do not. Latent weights step as far as their rule says:
    ``lr`` is ``learning_rate`` times the group's ``step_scale`` (set it so too when the rate changes); their decay is
    divided by it, so that it stays what was asked for.

    With ``matrices``, for Muon, the weights of hidden layers are in groups of their own, whose ``groups`` says how many
    groups the convolution has; it is 0 for everything else.
    """
    scales = {
        layer.weight: layer.latent_rule.step_scale(layer.weight)
        for layer in network.modules()
        if isinstance(layer, QuantLayer)
    }
    hidden = _hidden(network) if matrices else {}
    kinds: dict[tuple[float, float, int], list[nn.Parameter]] = {(weight_decay, 1.0, 0): [], (0.0, 1.0, 0): []}
    for parameter in network.parameters():
        decay = weight_decay if parameter.dim() > 1 else 0.0
        kind = decay, scales.get(parameter, 1.0), hidden.get(parameter, 0)
        kinds.setdefault(kind, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay / scale, "lr": learning_rate * scale, "step_scale": scale}
        | {"groups": groups}
        for (decay, scale, groups), parameters in kinds.items()
    ]


def _hidden(network: nn.Module) -> dict[Any, int]:
    """Weights of all convolutions and linear layers but the first, the last and an auxiliary head's, with their groups.

    First and last in the order in which the modules stand.
    """
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear | QuantLayer) and not name.startswith("auxiliary.")
    ]
    return {layer.weight: layer.groups if isinstance(layer, nn.Conv2d | QuantConv2d) else 1 for layer in layers[1:-1]}


def settle(network: nn.Module) -> None:
    """Bring all latent weights to where their methods want them; call it after each step of the optimizer."""
    for module in network.modules():
        if isinstance(module, QuantLayer):
            module.settle()
