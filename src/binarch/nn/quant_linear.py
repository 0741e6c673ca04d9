"""A linear layer whose input and weights pass through quantizers."""

from typing import final

from torch import Tensor
from torch.nn import functional

from binarch.nn.quant_layer import QuantLayer
from binarch.quantizers import LatentRule, Quantizer


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
        super().__init__(
            (out_features, in_features),
            weight_quantizer,
            activation_quantizer,
            bias=bias,
            latent=latent,
            latent_rule=latent_rule,
        )

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight)
