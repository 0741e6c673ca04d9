"""What a network costs: parameters, multiply-accumulates, bits."""

from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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

    The convolutions are counted by PyTorch's flop counter in one pass in evaluation mode on the network as it is;
    a convolution is binary where both of its quantizers give one bit. Binary multiply-accumulates are k * k * C_in *
    C_out / groups per output pixel.
    """
    binary = {name for name, module in network.named_modules() if isinstance(module, QuantConv2d) and module.is_binary}
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with FlopCounterMode(display=False, depth=None) as counter, torch.no_grad():
        network(torch.zeros(1, 3, image_size, image_size, device=device))
    network.train(training)
    root = type(network).__name__
    counts = {
        name: sum(flops for operation, flops in operations.items() if operation is torch.ops.aten.convolution)
        for name, operations in counter.get_flop_counts().items()
    }
    macs = counts["Global"] // 2
    binary_macs = sum(counts.get(f"{root}.{name}", 0) for name in binary) // 2
    parameters = {name: p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary.")}
    scales = sum(n for name, n in parameters.items() if name.endswith(".scale"))
    bits = sum(parameters[f"{name}.weight"] for name in binary)
    total = sum(parameters.values())
    return Costs(
        params=total - scales,
        output_scales=scales,
        binary_params=bits,
        macs=macs,
        binary_macs=binary_macs,
        float_macs=macs - binary_macs,
        bytes_packed=(bits + 7) // 8 + 4 * (total - bits),
    )
