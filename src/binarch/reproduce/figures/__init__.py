"""Figures 1 and 2: the cells that searches found, and the operations of the spaces."""

from binarch.reproduce.figures.figures import reproduce_figures

__all__ = ["reproduce_figures"]
