"""Layers: quantized convolution, shuffle, factorized reduction, drop-path."""

from binarch.nn.binarization import Binarization, Binarize
from binarch.nn.blocks import ChannelShuffle, DropPath, ShiftedPair, Zero, batch_norm, shifted
from binarch.nn.quant_conv import QuantConv2d

__all__ = [
    "Binarization",
    "Binarize",
    "ChannelShuffle",
    "DropPath",
    "QuantConv2d",
    "ShiftedPair",
    "Zero",
    "batch_norm",
    "shifted",
]
