"""From a trained network to a packed program, and from that to whatever else can run it."""

from binarch.deploy.bench import Bench, Timing, bench
from binarch.deploy.builder import Builder
from binarch.deploy.cold import ColdStart, cold_start
from binarch.deploy.engines import ENGINES, Engine
from binarch.deploy.layers import Layers, summarise, tell_layers
from binarch.deploy.lower import lower, pack_network, register
from binarch.deploy.onnx import check_onnx, to_onnx
from binarch.deploy.pack import pack_run
from binarch.deploy.random import random_program
from binarch.deploy.sources import find_program, genotype_of, open_program
from binarch.deploy.tell import summary, tell, tell_cold
from binarch.deploy.torch_graph import torch_graph

__all__ = [
    "ENGINES",
    "Bench",
    "Builder",
    "ColdStart",
    "Engine",
    "Layers",
    "Timing",
    "bench",
    "check_onnx",
    "cold_start",
    "find_program",
    "genotype_of",
    "lower",
    "open_program",
    "pack_network",
    "pack_run",
    "random_program",
    "register",
    "summarise",
    "summary",
    "tell",
    "tell_cold",
    "tell_layers",
    "to_onnx",
    "torch_graph",
]
