"""The supplement's tables, made again: rows, recipes, budgets; and its figures."""

from binarch.reproduce.budget import BUDGETS, Budget
from binarch.reproduce.figures import reproduce_figures
from binarch.reproduce.row import Recipe, Row
from binarch.reproduce.runner import Line, Runner
from binarch.reproduce.table import reproduce_table1
from binarch.reproduce.table1 import ROWS

__all__ = ["BUDGETS", "ROWS", "Budget", "Line", "Recipe", "Row", "Runner", "reproduce_figures", "reproduce_table1"]
