"""Shift-based AdaMax: the optimizer of BNN's Torch7 code."""

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor

from binarch.quantizers import ap2


@final
class ShiftAdaMax(torch.optim.Optimizer):
    r"""AdaMax (Kingma and Ba, 2015) whose divisions are shifts, with all parameters kept in [-1, 1].

    With AP2 the nearest power of two: :math:`m \leftarrow 0.9 m + 0.1 g`;
    :math:`v \leftarrow \operatorname{AP2}(\max(0.999 v, |g|)) + 2^{-27}` (written back);
    :math:`x \leftarrow \operatorname{clip}(x - \operatorname{AP2}(\eta / (1 - 0.9^t))\, m / v, -1, 1)`. The clip takes
    scales and biases of norms too, as in that code. No weight decay. Made for the scheme ``bnn-shift``.
    """

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; ``closure`` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"])

    def _update(self, parameter: Tensor, rate: float) -> None:
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["largest"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        state["mean"].lerp_(grad, 0.1)
        state["largest"].copy_(ap2(torch.maximum(0.999 * state["largest"], grad.abs())) + 2**-27)
        length = ap2(rate / (1 - 0.9 ** state["step"]))
        parameter.sub_(length.to(parameter) * state["mean"] / state["largest"]).clamp_(-1, 1)
