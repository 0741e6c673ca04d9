"""The regularizer of beta-DARTS (Ye et al., CVPR 2022).

What decays is the softmax of the alphas: along the gradient of :math:`\\log \\sum_o e^{\\alpha_o}` the largest alpha of
an edge is lowered the most, so that no operation runs away early.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def beta_regularizer(alphas: Sequence[Tensor]) -> Tensor:
    r"""The mean over the edges of all cells of :math:`\log \sum_o e^{\alpha_o}`.

    Backward: :math:`\operatorname{softmax}(\alpha)_o` over the number of edges. It looks at the alphas themselves: a
    softmax temperature (BATS) and the alphas of edges (PC-DARTS) have no part in it.
    """
    return torch.cat([table.logsumexp(1) for table in alphas]).mean()


def beta_rate(weight: float, epoch: int, epochs: int) -> float:
    r"""Its weight in an epoch of a stage, :math:`\lambda(e) = W e / E`: from 0 in the first towards W.

    The public code has :math:`0.5\, e`, so W is half the number of epochs: 50 in its 100 epochs, 25 in DARTS' 50.
    """
    return weight * epoch / epochs
