"""What a network costs: parameters, multiply-accumulates, bits."""

from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.nn import QuantConv2d


@final
@dataclass(frozen=True)
class Costs:
    """Costs of one network for one image; the auxiliary head is left out, as in the literature."""

    params: int
    """Learned numbers without the learned output scales, as published counts have it."""
    output_scales: int
    """Learned output scales of the binary convolutions, one per filter."""
    binary_params: int
    """Those of ``params`` that are 1-bit filters."""
    macs: int
    """Multiply-accumulates of all convolutions, as the literature counts them."""
    binary_macs: int
    """Those of ``macs`` with both operands 1-bit: one xnor and count each."""
    float_macs: int
    """The rest of ``macs``."""
    bytes_packed: int
    """1 bit per binary filter weight, 4 bytes per other number."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)


def costs(network: nn.Module, image_size: int) -> Costs:
    """Count ``network`` for one 3 x S x S image.

    A convolution with filters (out, in / groups, k, k) costs k * k * in / groups multiply-accumulates per number of its
    output; it is binary where both of its quantizers give one bit. Output sizes are observed in one pass in evaluation
    mode, and counted by this formula rather than by what was executed: a layer may compute the same sums another way.
    """
    counted: dict[bool, int] = {True: 0, False: 0}

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | QuantConv2d)
        binary = isinstance(module, QuantConv2d) and module.is_binary
        counted[binary] += output[0].numel() * module.weight[0].numel()

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d | QuantConv2d)]
    hooks = [module.register_forward_hook(count) for module in convolutions]
    training = network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    parameters = {name: p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary.")}
    scales = sum(n for name, n in parameters.items() if name.endswith(".scale"))
    bits = sum(m.weight.numel() for m in convolutions if isinstance(m, QuantConv2d) and m.is_binary)
    total = sum(parameters.values())
    return Costs(
        params=total - scales,
        output_scales=scales,
        binary_params=bits,
        macs=counted[True] + counted[False],
        binary_macs=counted[True],
        float_macs=counted[False],
        bytes_packed=(bits + 7) // 8 + 4 * (total - bits),
    )
