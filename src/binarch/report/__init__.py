"""Telling a run in pictures: drawings of cells, and one page per run folder."""

from binarch.report.draw import draw_cell, draw_genotype, save_drawing
from binarch.report.page import write_report
from binarch.report.primitive import cell_statistics

__all__ = ["cell_statistics", "draw_cell", "draw_genotype", "save_drawing", "write_report"]
