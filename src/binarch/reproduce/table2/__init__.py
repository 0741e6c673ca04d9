"""Table 2: real-valued systems on CIFAR-10, their searches, and the same searches for binary networks."""

from binarch.reproduce.table2.budget import BUDGETS, Budget
from binarch.reproduce.table2.system import Mode, Searched, System, Trained
from binarch.reproduce.table2.systems import SYSTEMS
from binarch.reproduce.table2.table import reproduce_table2

__all__ = ["BUDGETS", "SYSTEMS", "Budget", "Mode", "Searched", "System", "Trained", "reproduce_table2"]
