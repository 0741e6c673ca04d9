"""From a trained network to a packed program."""

from binarch.deploy.builder import Builder
from binarch.deploy.lower import lower, pack_network
from binarch.deploy.pack import pack_run

__all__ = ["Builder", "lower", "pack_network", "pack_run"]
