"""Loss and accuracy of a network on images."""

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

import torch
from torch import nn

from binarch.data import Dataset, Images, evaluation_batches
from binarch.nn import evaluating
from binarch.ranks import ALONE, Ranks
from binarch.training.loss import Loss, loss_of


@final
@dataclass(frozen=True)
class Score:
    """Mean loss (cross-entropy: in nats), and the share of correct answers."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: Images,
    dataset: Dataset,
    batch_size: int = 250,
    loss: Loss = "cross_entropy",
    ranks: Ranks = ALONE,
    **arguments: Any,
) -> Score:
    """Score ``network`` in evaluation mode on ``images``, normalised as ``dataset`` says; modes are put back.

    Several ranks take turns with the batches of one process and add up, so all return the same score.
    """
    sums = torch.zeros(2, dtype=torch.float64, device=images.labels.device)
    # Near-equal batches: a supernet normalises by the batch, and one image alone has no statistics.
    batch_size = math.ceil(len(images) / math.ceil(len(images) / batch_size))
    batches = evaluation_batches(images, dataset.mean, dataset.std, batch_size)
    with evaluating(network):
        for x, y in islice(batches, ranks.rank, None, ranks.world):
            logits = network(x.contiguous(memory_format=torch.channels_last), **arguments).float()
            total = loss_of(loss, logits, y, 0.0).double() * len(y)
            sums += torch.stack([total, (logits.argmax(1) == y).sum().double()])
    ranks.sum_([sums])
    mean, correct = (sums / len(images)).tolist()
    return Score(mean, correct)
