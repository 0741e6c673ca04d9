"""Trained networks that come with the package: a packed file each, and beside it what the file cannot say of itself."""

from binarch.networks.model_card import model_card
from binarch.networks.probes import probes
from binarch.networks.shipped import Shipped, find, load, shipped

__all__ = ["Shipped", "find", "load", "model_card", "probes", "shipped"]
