"""What all stages of a training do alike: what they say of an epoch, and how they are judged."""

from typing import Any

from torch import Tensor, nn

from binarch.data import Dataset, Images
from binarch.ranks import Ranks
from binarch.training.config import TrainConfig
from binarch.training.evaluate import evaluate
from binarch.training.loss import Loss


def record(config: TrainConfig, index: int, epoch: int, sums: list[float]) -> dict[str, Any]:
    """What every stage says of an epoch."""
    loss, correct, count = sums
    return {
        "phase": "train",
        "stage": index,
        "stage_name": config.stages[index].name,
        "epoch": epoch,
        "global_epoch": sum(stage.epochs for stage in config.stages[:index]) + epoch,
        "train_loss": loss / count,
        "train_accuracy": correct / count,
    }


def judge(network: nn.Module, held: Images, dataset: Dataset, loss: Loss, ranks: Ranks) -> dict[str, float]:
    """Loss and accuracy on what was held out; nothing where nothing was."""
    if not len(held):
        return {}
    score = evaluate(network, held, dataset, loss=loss, ranks=ranks)
    return {"validation_loss": score.loss, "validation_accuracy": score.accuracy}


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    """All weights and statistics, apart from the network's own."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
