"""What every quantizer promises."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Quantizer(nn.Module, ABC):
    """A map from real numbers to a few codes times a scale, with a gradient of its own.

    ``quantize(x)`` is the truth: it returns ``(codes, scale)`` with ``scale`` broadcastable against the codes, which
    have the shape of ``x`` (but for circulant filters, which grow). Both carry the method's gradient. Packing uses
    ``quantize``; so does a layer that wants to sum codes exactly and scale the sum.
    """

    #: Bits per code; 32 where numbers stay real.
    bits: int

    @abstractmethod
    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(codes, scale)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``codes * scale``, differentiable; where the scale is always 1, a method may save the product."""
        codes, scale = self.quantize(x)
        return codes * scale


class StepQuantizer(Quantizer, ABC):
    """A quantizer of activations: a staircase that rises at fixed thresholds, the same for every number of a map."""

    @abstractmethod
    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(thresholds, codes, scale)``: L - 1 ascending thresholds, the L codes between them, and the scale.

        A number x gets the code number #{t : x >= t}. A rule that says "above t" holds the next float32 number after t
        here. Codes are integers where the stairs are equally high; sums of them are exact.
        """


class Correction(nn.Module, ABC):
    """What a method does to the sums of codes, before they are scaled."""

    @abstractmethod
    def forward(self, counts: Tensor, x: Tensor) -> Tensor:
        """Correct ``counts`` (N, out, H', W'), the sums that a convolution made of the codes of ``x`` (N, in, H, W)."""
