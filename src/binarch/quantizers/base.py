"""What every quantizer promises."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Quantizer(nn.Module, ABC):
    """A map from real numbers to a few codes times a scale, with a gradient of its own.

    ``quantize(x)`` is the truth: it returns ``(codes, scale)`` with ``codes`` of the shape of ``x`` and ``scale``
    broadcastable against them. Both carry the method's gradient, and ``forward(x)`` equals ``codes * scale``.
    Packing uses ``quantize``; so does a layer that wants to sum codes exactly and scale the sum.
    """

    #: Bits per code; 32 for the identity.
    bits: ClassVar[int]

    @abstractmethod
    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(codes, scale)``."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return ``codes * scale``, differentiable."""
