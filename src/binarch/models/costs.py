"""What a network costs: parameters, multiply-accumulates, bits."""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.nn import QuantConv2d, QuantLayer, QuantLinear, evaluating


@final
@dataclass(frozen=True)
class Costs:
    """Costs of one network for one image; the auxiliary head is left out, as in the literature."""

    params: int
    """Learned numbers without the learned output scales, as published counts have it."""
    output_scales: int
    """Learned output scales of the binary convolutions, one per filter."""
    binary_params: int
    """Those of ``params`` that are 1-bit weights."""
    macs: int
    """Multiply-accumulates of all convolutions, as the literature counts them, and of quantized linear layers."""
    binary_macs: int
    """Those of ``macs`` with both operands 1-bit: one xnor and count each."""
    float_macs: int
    """The rest of ``macs``."""
    bytes_packed: int
    """Bits of the weights that are codes, 4 bytes per other number and per scale of a filter."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)


Layer = nn.Conv2d | nn.Linear | QuantLayer


def costs(network: nn.Module, image_size: int) -> Costs:
    """Count ``network`` for one 3 x S x S image, in evaluation mode: some weights carry few bits in training only."""
    with evaluating(network):
        return _costs(network, image_size)


def _costs(network: nn.Module, image_size: int) -> Costs:
    multiplied = {
        layer: macs
        for layer, macs in layer_macs(network, image_size).items()
        if isinstance(layer, nn.Conv2d | QuantConv2d | QuantLinear)
    }
    binary = sum(macs for layer, macs in multiplied.items() if isinstance(layer, QuantLayer) and layer.is_binary)
    parameters = {name: p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary.")}
    scales = sum(n for name, n in parameters.items() if name.endswith(".scale"))
    coded = [layer for layer in multiplied if isinstance(layer, QuantLayer) and layer.weight_quantizer.bits < 32]
    # What quantizers learn goes into the factors of the filters, as output scales do.
    learned = sum(p.numel() for layer in coded for q in _quantizers(layer) for p in q.parameters())
    others = sum(parameters.values()) - scales - learned - sum(layer.weight.numel() for layer in coded)
    return Costs(
        params=sum(parameters.values()) - scales,
        output_scales=scales,
        binary_params=sum(layer.weight.numel() for layer in coded if layer.weight_quantizer.bits == 1),
        macs=sum(multiplied.values()),
        binary_macs=binary,
        float_macs=sum(multiplied.values()) - binary,
        bytes_packed=4 * others + sum(map(code_bytes, coded)),
    )


def _quantizers(layer: QuantLayer) -> tuple[nn.Module, nn.Module]:
    return layer.weight_quantizer, layer.activation_quantizer


def code_bytes(layer: QuantLayer) -> int:
    """Bytes of a layer's codes and of one factor per filter, into which all its scales go."""
    return (prod(layer.filter_shape) * layer.weight_quantizer.bits + 7) // 8 + 4 * layer.filter_shape[0]


def layer_macs(network: nn.Module, image_size: int) -> dict[Layer, int]:
    """Multiply-accumulates of every convolution and linear layer, in the order in which they run.

    A convolution with filters (out, in / groups, k, k) costs k * k * in / groups multiply-accumulates per number of
    its output. Output sizes are observed in one pass in evaluation mode, and counted by this formula rather than by
    what was executed: a layer may compute the same sums another way.
    """
    counted: dict[Layer, int] = {}

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, Layer)
        filters = module.filter_shape if isinstance(module, QuantLayer) else module.weight.shape
        counted[module] = counted.get(module, 0) + output[0].numel() * prod(filters[1:])

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, Layer)]
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return counted
