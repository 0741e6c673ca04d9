"""What an optimizer must know of quantized layers: how long their steps are, and what follows a step."""

from typing import Any

from torch import nn

from binarch.nn.quant_layer import QuantLayer


def parameter_groups(network: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """The parameters in groups for an optimizer.

    Filters and matrices decay; norms, slopes, biases and scales do not. Latent weights step as far as their rule says:
    ``lr`` is ``learning_rate`` times the group's ``step_scale`` (set it so too when the rate changes); their decay is
    divided by it, so that it stays what was asked for.
    """
    scales = {
        layer.weight: layer.latent_rule.step_scale(layer.weight)
        for layer in network.modules()
        if isinstance(layer, QuantLayer)
    }
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {(weight_decay, 1.0): [], (0.0, 1.0): []}
    for parameter in network.parameters():
        decay = weight_decay if parameter.dim() > 1 else 0.0
        kinds.setdefault((decay, scales.get(parameter, 1.0)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay / scale, "lr": learning_rate * scale, "step_scale": scale}
        for (decay, scale), parameters in kinds.items()
    ]


def settle(network: nn.Module) -> None:
    """Bring all latent weights to where their methods want them; call it after each step of the optimizer."""
    for module in network.modules():
        if isinstance(module, QuantLayer):
            module.settle()
