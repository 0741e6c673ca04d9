"""Telling a run in pictures: drawings of cells and of operations, and one page per run folder."""

from binarch.report.diagram import Caption, Diagram, Step, draw_diagrams
from binarch.report.draw import Panel, draw_cell, draw_genotype, draw_panels, save_drawing
from binarch.report.page import write_report
from binarch.report.primitive import cell_statistics

__all__ = [
    "Caption",
    "Diagram",
    "Panel",
    "Step",
    "cell_statistics",
    "draw_cell",
    "draw_diagrams",
    "draw_genotype",
    "draw_panels",
    "save_drawing",
    "write_report",
]
