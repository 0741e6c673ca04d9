"""What every quantizer promises."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Quantizer(nn.Module, ABC):
    """A map from real numbers to a few codes times a scale, with a gradient of its own.

    ``quantize(x)`` is the truth: it returns ``(codes, scale)`` with ``codes`` of the shape of ``x`` and ``scale``
    broadcastable against them. ``forward(x)`` equals ``codes * scale`` and carries the method's gradient.
    Packing and tests use ``quantize``; training uses ``forward``.
    """

    #: Bits per code; 32 for the identity.
    bits: ClassVar[int]

    @abstractmethod
    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(codes, scale)``."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return ``codes * scale``, differentiable."""
