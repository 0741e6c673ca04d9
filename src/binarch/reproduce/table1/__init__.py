"""Table 1: binarization methods on CIFAR-10."""

from binarch.reproduce.table1.budget import BUDGETS, Budget
from binarch.reproduce.table1.row import Recipe, Row
from binarch.reproduce.table1.rows import ROWS
from binarch.reproduce.table1.table import reproduce_table1

__all__ = ["BUDGETS", "ROWS", "Budget", "Recipe", "Row", "reproduce_table1"]
