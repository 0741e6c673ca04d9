"""Loss and accuracy of a network on images."""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from binarch.data import Dataset, Images, evaluation_batches
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
    **arguments: Any,
) -> Score:
    """Score ``network`` in evaluation mode on ``images``, normalised as ``dataset`` says; the mode is put back."""
    training = network.training
    network.eval()
    sums = torch.zeros(2, dtype=torch.float64)
    # Near-equal batches: a supernet normalises by the batch, and one image alone has no statistics.
    batch_size = math.ceil(len(images) / math.ceil(len(images) / batch_size))
    for x, y in evaluation_batches(images, dataset.mean, dataset.std, batch_size):
        logits = network(x.contiguous(memory_format=torch.channels_last), **arguments).float()
        total = loss_of(loss, logits, y, 0.0).double() * len(y)
        sums = sums.to(total.device) + torch.stack([total, (logits.argmax(1) == y).sum().double()])
    network.train(training)
    mean, correct = (sums / len(images)).tolist()
    return Score(mean, correct)
