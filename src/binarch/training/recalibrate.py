"""Statistics of batch norms, taken anew for weights that stand still."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from binarch.data import Batches
from binarch.nn import NORMS, evaluating
from binarch.ranks import Ranks


@torch.no_grad()
def recalibrate(network: nn.Module, forward: nn.Module, batches: Batches, epoch: int, count: int, ranks: Ranks) -> None:
    r"""Replace all running statistics of ``network`` by their plain mean over ``count`` training batches.

    The k-th batch, k = 1, 2, ..., moves a statistic s by :math:`s \leftarrow s + (b_k - s) / k`, which is
    ``momentum=None`` of PyTorch. The batches are those that ``epoch`` and the ones after it would show, augmented as in
    training. Only the norms are in training mode: quantizers are as in evaluation, nothing is dropped, nothing drawn.
    A norm that sees no image then, as in an auxiliary head, keeps what it had. Several ranks take a part of each
    batch and average. ``forward`` computes ``network``, in the precision of the run.
    """
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    before = [norm.momentum for norm in norms]
    try:
        with evaluating(forward):
            for norm in norms:
                norm.train()
            for k in range(count):
                for norm in norms:
                    norm.momentum = 1 / (k + 1)
                x, _ = batches.get(epoch + k // len(batches), k % len(batches))
                forward(ranks.part(x).contiguous(memory_format=torch.channels_last))
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
    ranks.sum_(_statistics(norms), ranks.share(batches.batch_size))


def _statistics(norms: Sequence[nn.Module]) -> list[Tensor]:
    return [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
