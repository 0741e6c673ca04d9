"""The supplement's tables, made again: rows, recipes, budgets."""

from binarch.reproduce.table1 import reproduce_table1

__all__ = ["reproduce_table1"]
