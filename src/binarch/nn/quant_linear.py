"""A linear layer whose input and weights pass through quantizers."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn.quant_layer import QuantLayer
from binarch.quantizers import Free, LatentRule, Quantizer


@final
class QuantLinear(QuantLayer):
    r"""Linear layer :math:`y = q_w(W)\,q_a(x) + b`; see :class:`QuantLayer`.

    x is (..., in), y (..., out), W (out, in).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        weight_quantizer: Quantizer,
        activation_quantizer: Quantizer,
        bias: bool = False,
        latent: Tensor | None = None,
        latent_rule: LatentRule | None = None,
    ) -> None:
        super().__init__()
        self.filter_shape = (out_features, in_features)
        self.weight = nn.Parameter(torch.empty(self.filter_shape) if latent is None else latent)
        self.scale = None
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer
        self.latent_rule = Free() if latent_rule is None else latent_rule
        self.correction = None
        if latent is None:
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight)
