"""Which images are worth learning from: those that an earlier network finds hard."""

import torch
from torch import Tensor
from torch.nn import functional

from binarch.data import Dataset, Images, evaluation_batches
from binarch.training.teacher import Teacher


@torch.no_grad()
def hardest(images: Images, proxy: Teacher, dataset: Dataset, share: float, batch_size: int = 500) -> Tensor:
    """Sorted indices of the ``share`` of ``images`` on which ``proxy`` has the largest cross-entropy; at least one.

    They are looked at as they are, not augmented. airbench (Jordan, 2024) filters each augmented batch anew instead.
    """
    losses = [
        functional.cross_entropy(proxy(x.contiguous(memory_format=torch.channels_last)).float(), y, reduction="none")
        for x, y in evaluation_batches(images, dataset.mean, dataset.std, batch_size)
    ]
    order = torch.cat(losses).argsort(descending=True, stable=True)
    return order[: share_of(len(images), share)].sort().values


def share_of(count: int, share: float) -> int:
    """How many images are ``share`` of ``count``; at least one."""
    return max(round(share * count), 1)
