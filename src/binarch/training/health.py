"""How a binary network learns: which of its bits still turn, and how many activations pass no gradient."""

from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.nn import QuantLayer, evaluating
from binarch.quantizers import StepQuantizer


@final
class Health:
    """Watches the quantized layers of one network.

    ``flip_ratio``: share of the coded weights whose code changed its sign (or became 0) since the epoch began. A ratio
    that does not fall at the end says that the learning rate is too high; one of zero, that the weights are frozen.

    ``saturated``: share of the numbers before activation quantizers at which the quantizer passes no gradient, on given
    images in evaluation mode. Before a sign those are the numbers with |x| >= 1, also where a hard tanh cut them to 1.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.coded = [m for m in network.modules() if isinstance(m, QuantLayer) and m.weight_quantizer.bits < 32]
        self.stepping = [
            m
            for m in network.modules()
            if isinstance(m, QuantLayer) and isinstance(m.activation_quantizer, StepQuantizer)
        ]
        self.before = self._codes()

    def begin_epoch(self) -> None:
        """Remember the codes as they are."""
        self.before = self._codes()

    def row(self, images: Tensor) -> dict[str, float]:
        """The two numbers, for the record of an epoch; those that the network has no layers for are left out."""
        row = {}
        if self.coded:
            flipped = sum(int((now != then).sum()) for now, then in zip(self._codes(), self.before, strict=True))
            row["flip_ratio"] = flipped / sum(codes.numel() for codes in self.before)
        if self.stepping:
            row["saturated"] = self._saturated(images)
        return row

    def state(self) -> list[Tensor]:
        """What :meth:`begin_epoch` remembered."""
        return self.before

    def load_state(self, state: list[Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        self.before = [codes.to(now.device) for codes, now in zip(state, self.before, strict=True)]

    @torch.no_grad()
    def _codes(self) -> list[Tensor]:
        """-1, 0 or 1 per weight. In evaluation mode: asking must not teach a quantizer anything."""
        found = []
        for layer in self.coded:
            with evaluating(layer.weight_quantizer):
                found.append(layer.weight_quantizer.quantize(layer.weight)[0].sign().to(torch.int8))
        return found

    def _saturated(self, images: Tensor) -> float:
        counts = torch.zeros(2, dtype=torch.float64)

        def look(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            assert isinstance(layer, QuantLayer)
            with torch.enable_grad():
                x = arguments[0].detach().requires_grad_()
                (slope,) = torch.autograd.grad(layer.activation_quantizer.quantize(x)[0].sum(), x)
            stuck = slope == 0
            if layer.activation_quantizer.steps()[1][0] < 0:  # type: ignore[operator]
                stuck |= x.abs() >= 1
            counts[0] += stuck.sum().cpu()
            counts[1] += slope.numel()

        hooks = [layer.register_forward_pre_hook(look) for layer in self.stepping]
        try:
            with evaluating(self.network), torch.no_grad():
                self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return float(counts[0] / counts[1])
