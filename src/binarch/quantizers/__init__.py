"""Real numbers to codes: one file per method, each with its forward formula and its gradient."""

from binarch.quantizers.base import Quantizer
from binarch.quantizers.identity import Identity
from binarch.quantizers.sign import CentredSign, Sign, straight_through_sign

__all__ = ["CentredSign", "Identity", "Quantizer", "Sign", "straight_through_sign"]
