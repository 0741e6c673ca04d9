"""Layers: quantized convolution, shuffle, factorized reduction, drop-path."""

from binarch.nn.binarization import CELL_SCHEMES, Binarization, Binarize
from binarch.nn.binarize import Changes, Where, binarize_
from binarch.nn.blocks import ChannelBias, ChannelShuffle, DropPath, ShiftedPair, Zero, batch_norm, shifted
from binarch.nn.chain import Chain, through
from binarch.nn.exact_conv import ExactConv2d
from binarch.nn.grouped import GroupedProduct, tune_
from binarch.nn.modes import evaluating
from binarch.nn.norms import NORMS, ShiftBatchNorm
from binarch.nn.optimization import parameter_groups, settle
from binarch.nn.phases import merge_phases, split_phases
from binarch.nn.plain import plain
from binarch.nn.prelu import PReLU, prelu
from binarch.nn.quant_conv import QuantConv2d
from binarch.nn.quant_layer import QuantLayer, Stair, stairs, uneven
from binarch.nn.quant_linear import QuantLinear
from binarch.nn.scheme import Scheme
from binarch.nn.schemes import SCHEMES, find_scheme
from binarch.nn.sign_gradient import SignGradient

__all__ = [
    "CELL_SCHEMES",
    "NORMS",
    "SCHEMES",
    "Binarization",
    "Binarize",
    "Chain",
    "Changes",
    "ChannelBias",
    "ChannelShuffle",
    "DropPath",
    "ExactConv2d",
    "GroupedProduct",
    "PReLU",
    "QuantConv2d",
    "QuantLayer",
    "QuantLinear",
    "Scheme",
    "ShiftBatchNorm",
    "ShiftedPair",
    "SignGradient",
    "Stair",
    "Where",
    "Zero",
    "batch_norm",
    "binarize_",
    "evaluating",
    "find_scheme",
    "merge_phases",
    "parameter_groups",
    "plain",
    "prelu",
    "settle",
    "shifted",
    "split_phases",
    "stairs",
    "through",
    "tune_",
    "uneven",
]
