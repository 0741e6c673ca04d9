"""How a network is fitted."""

from binarch.training.config import TrainConfig, TrainStage
from binarch.training.display import Display
from binarch.training.evaluate import Score, evaluate
from binarch.training.fit import train
from binarch.training.loop import Diverged, Interrupted, Loop, Task
from binarch.training.trained import evaluate_run, load_network

__all__ = [
    "Display",
    "Diverged",
    "Interrupted",
    "Loop",
    "Score",
    "Task",
    "TrainConfig",
    "TrainStage",
    "evaluate",
    "evaluate_run",
    "load_network",
    "train",
]
