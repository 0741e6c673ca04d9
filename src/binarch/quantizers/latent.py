"""What happens to latent weights besides the optimizer's step: how long the step is, and where it may lead."""

from abc import ABC, abstractmethod
from math import log2, sqrt
from typing import final

import torch
from torch import Tensor


class LatentRule(ABC):
    """The method's way with the real numbers behind the codes."""

    @abstractmethod
    def step_scale(self, weight: Tensor) -> float:
        """A factor on the optimizer's step (not on the gradient) for this weight."""

    @abstractmethod
    def settle(self, weight: Tensor) -> None:
        """Bring the weight, in place, to where it may be; called after each step and once before the first."""


@final
class Free(LatentRule):
    """Nothing: latent weights go where the optimizer takes them."""

    def step_scale(self, weight: Tensor) -> float:
        """1."""
        return 1.0

    def settle(self, weight: Tensor) -> None:
        """Leave the weight as it is."""


@final
class Boxed(LatentRule):
    """Clip to [-1, 1] after each step, so that a weight never lies too far off to change its sign."""

    def step_scale(self, weight: Tensor) -> float:
        """1."""
        return 1.0

    @torch.no_grad()
    def settle(self, weight: Tensor) -> None:
        """Clip."""
        weight.clamp_(-1, 1)


@final
class GlorotBoxed(LatentRule):
    r"""Clip to [-1, 1], and lengthen each step by :math:`1 / \sqrt{1.5 / (n_{in} + n_{out})}`.

    The factor is the inverse of Glorot's initial width: weights in [-1, 1] are that much larger than those for which
    learning rates are chosen. BinaryConnect and BNN scale the *step* of Adam by it, which is not the same as scaling
    the gradient: Adam would divide that out again. :math:`n_{in}` = inputs of a filter, :math:`n_{out}` = outputs
    times kernel pixels. Read in both public codes. With ``shift`` the factor is rounded to a power of two, as in BNN's
    Torch7 code.
    """

    def __init__(self, shift: bool = False) -> None:
        self.shift = shift

    def step_scale(self, weight: Tensor) -> float:
        """28.04 for 3 -> 128 channels and a 3 x 3 kernel; 32 with ``shift``."""
        pixels = weight[0, 0].numel()
        scale = 1 / sqrt(1.5 / ((weight.shape[0] + weight.shape[1]) * pixels))
        return 2.0 ** round(log2(scale)) if self.shift else scale

    @torch.no_grad()
    def settle(self, weight: Tensor) -> None:
        """Clip."""
        weight.clamp_(-1, 1)


@final
class CentredBoxed(LatentRule):
    """Centre over the input channels, then clip to [-1, 1]: XNOR-Net's way, kept in the weights themselves.

    With a single input channel centring would leave nothing, so it is skipped there.
    """

    def step_scale(self, weight: Tensor) -> float:
        """1."""
        return 1.0

    @torch.no_grad()
    def settle(self, weight: Tensor) -> None:
        """Centre and clip."""
        if weight.shape[1] > 1:
            weight.sub_(weight.mean(1, keepdim=True))
        weight.clamp_(-1, 1)
