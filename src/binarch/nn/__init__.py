"""Layers: quantized convolution, shuffle, factorized reduction, drop-path."""

from binarch.nn.binarization import Binarization, Binarize
from binarch.nn.blocks import ChannelShuffle, DropPath, ShiftedPair, Zero, batch_norm, shifted
from binarch.nn.phases import merge_phases, split_phases
from binarch.nn.prelu import PReLU, prelu
from binarch.nn.quant_conv import QuantConv2d
from binarch.nn.stem import StemConv2d

__all__ = [
    "Binarization",
    "Binarize",
    "ChannelShuffle",
    "DropPath",
    "PReLU",
    "QuantConv2d",
    "ShiftedPair",
    "StemConv2d",
    "Zero",
    "batch_norm",
    "merge_phases",
    "prelu",
    "shifted",
    "split_phases",
]
