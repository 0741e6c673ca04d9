"""How a genotype is found."""

from binarch.search.config import SearchConfig, SearchStage, binarization_of
from binarch.search.derive import derive_cell, random_genotype, shrink
from binarch.search.evolution import mutate_genotype
from binarch.search.operations import EdgeOperations
from binarch.search.run import STRATEGIES, search
from binarch.search.strategy import Strategy
from binarch.search.supernet import Mixture, Supernet

__all__ = [
    "STRATEGIES",
    "EdgeOperations",
    "Mixture",
    "SearchConfig",
    "SearchStage",
    "Strategy",
    "Supernet",
    "binarization_of",
    "derive_cell",
    "mutate_genotype",
    "random_genotype",
    "search",
    "shrink",
]
