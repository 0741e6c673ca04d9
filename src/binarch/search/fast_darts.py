"""The supernet's cell of the DARTS space, with the work that candidates share done once.

What holds exactly in search mode (batch norm without affine parameters, statistics of the batch):

1. ReLU(x) and the pooled, normalised maps depend on the source and the stride only.
2. The depthwise convolutions of one kind that leave one source are one with several filters per channel; the
   pointwise ones behind them are one grouped convolution.
3. The mixture weight of a convolution is the affine weight of its last batch norm.
"""

from typing import final

import torch
from torch import Tensor, nn

from binarch.search.naive import NaiveCell


@final
class FastDartsCell(nn.Module):
    """..."""

    def __init__(self, cell: NaiveCell) -> None:
        super().__init__()
        self.cell=cell
