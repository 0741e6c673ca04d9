"""The supplement's tables, made again: rows, recipes, budgets; and its figures."""

from binarch.reproduce.figures import reproduce_figures
from binarch.reproduce.table1 import ROWS, reproduce_table1
from binarch.reproduce.table2 import SYSTEMS, reproduce_table2

__all__ = ["ROWS", "SYSTEMS", "reproduce_figures", "reproduce_table1", "reproduce_table2"]
