"""The real convolution before a sign."""

from typing import final

import torch
from torch import Tensor, nn


@final
class ExactConv2d(nn.Conv2d):
    """``nn.Conv2d`` that computes in double in evaluation and rounds once: stems, and real shortcuts in binary
    networks.

    Sums of float32 depend on their order, which differs between libraries, processors and batch sizes. In most networks
    that is noise in the seventh digit; before a sign it can flip a bit, and a bit is not noise. A sum in double,
    rounded once, does not depend on the order (but for one number in some hundred million), so a network gives the same
    answer everywhere. Such convolutions are a small part of the work.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if self.training or x.dtype != torch.float32:
            return super().forward(x)
        bias = None if self.bias is None else self.bias.double()
        return self._conv_forward(x.double(), self.weight.double(), bias).to(x.dtype)
