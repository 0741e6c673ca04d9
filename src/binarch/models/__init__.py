"""Networks and what they cost."""

from binarch.models.cell_network import CellNetwork, Stem, reductions
from binarch.models.config import NetworkConfig
from binarch.models.costs import Costs, costs
from binarch.models.vgg import VggSmall

__all__ = ["CellNetwork", "Costs", "NetworkConfig", "Stem", "VggSmall", "costs", "reductions"]
