"""Networks and what they cost."""

from binarch.models.catalogue import MODELS, Model, build_model
from binarch.models.cell_network import CellNetwork, Stem, reductions
from binarch.models.config import Architecture, NetworkConfig, find_architecture
from binarch.models.costs import Costs, Layer, code_bytes, costs, layer_macs
from binarch.models.nasnet import ScaffoldNetwork
from binarch.models.scheduled_drop_path import ScheduledDropPath
from binarch.models.vgg import VggSmall

__all__ = [
    "MODELS",
    "Architecture",
    "CellNetwork",
    "Costs",
    "Layer",
    "Model",
    "NetworkConfig",
    "ScaffoldNetwork",
    "ScheduledDropPath",
    "Stem",
    "VggSmall",
    "build_model",
    "code_bytes",
    "costs",
    "find_architecture",
    "layer_macs",
    "reductions",
]
