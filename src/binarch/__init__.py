"""Binary architecture search: find, train, measure and look at networks with 1-bit weights and activations."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from binarch.runtime import Network

__version__ = "0.1.0"


def load(source: str | Path, threads: int = 1) -> "Network":
    """A network that comes with the package, by its name, or the one in a packed file: ``load("digits")``.

    The same object as that of :func:`binarch.runtime.load`. What it needs (numpy, Numba; no torch) is imported here, so
    that ``import binarch`` alone stays without effect.
    """
    from binarch.networks import load as load_network

    return load_network(source, threads)
