"""What a training asks of networks whose edges are dropped more often as it goes on."""

from abc import ABC, abstractmethod

from torch import nn


class ScheduledDropPath(nn.Module, ABC):
    """A network whose edges are dropped in training, each sample for itself (Zoph et al., CVPR 2018)."""

    @abstractmethod
    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which an edge of the last cell is dropped from now on.

        A training raises it linearly from 0. What the other cells make of it is the network's affair.
        """
