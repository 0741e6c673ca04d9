"""Dropout on skip connections while searching (P-DARTS, Chen et al., ICCV 2019)."""

from math import exp
from typing import final

from torch import Tensor, nn
from torch.nn import functional


@final
class SkipDropout(nn.Module):
    """Drops single numbers of a skip at stride 1 and scales the others by 1 / (1 - p), in training only.

    A skip is the easiest operation to learn from, so early in a search it wins too much weight; dropping some of what
    it passes makes it wait for the others. One object serves a whole supernet.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = probability

    @property
    def active(self) -> bool:
        """Whether it does anything now."""
        return self.training and self.probability > 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop."""
        return functional.dropout(x, self.probability, self.training)


def skip_dropout_rate(start: float, epoch: int, epochs: int, warmup: int) -> float:
    r"""The probability in an epoch of a stage that begins with ``start``.

    While only the weights learn (e < ``warmup``) it falls slowly, :math:`p_0 (E - e - 1) / E`; then it is back at the
    start and fades, :math:`p_0 \exp(-0.2 (e - warmup))`. So in the public code, where warmup is 10 of 25 epochs.
    """
    if epoch < warmup:
        return start * (epochs - epoch - 1) / epochs
    return start * exp(-0.2 * (epoch - warmup))
