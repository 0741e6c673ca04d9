"""The exponential average of a network over its training steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def weight_average(network: nn.Module, horizon: int) -> AveragedModel:
    r"""A copy of ``network`` for PyTorch's ``update_parameters``, which brings it nearer after each step.

    At the t-th call, t = 1, 2, ...: :math:`\bar w_t = \bar w_{t-1} + s_t (w_t - \bar w_{t-1})` with :math:`s_t =
    \max(1/t, 1/h)`: the plain mean of the first ``horizon`` h steps, from then on an exponential average in which a
    step that lies h steps back weighs 1/e of the newest. So the start of a training is forgotten at once, and there is
    no bias to correct. Weights (latent ones of binary layers too) and floating buffers, such as running statistics, are
    averaged; whole numbers, such as counts, are those of the newest network.
    """
    return AveragedModel(network, multi_avg_fn=_approach(horizon), use_buffers=True)


def _approach(horizon: int) -> Callable[[Any, Any, Any], None]:
    @torch.no_grad()
    def approach(averages: tuple[Tensor, ...], newest: tuple[Tensor, ...], before: Tensor) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, newest)
            return
        share = (1 / (before + 1)).clamp(min=1 / horizon)  # a tensor: reading it would wait for the device
        apart = torch._foreach_sub(newest, averages)
        torch._foreach_mul_(apart, share)
        torch._foreach_add_(averages, apart)

    return approach
