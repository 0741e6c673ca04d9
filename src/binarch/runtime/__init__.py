"""Packed networks: one bit per weight, run with numpy and numba alone, never torch.

from binarch.runtime import load
network = load("model.safetensors")
print(network.predict(image))
"""

from binarch.runtime.network import Network, load
from binarch.runtime.program import Program

__all__ = ["Network", "Program", "load"]
