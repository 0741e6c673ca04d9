"""Muon: momentum whose matrices are made orthogonal; AdamW for the rest."""

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.adamw import adamw

#: The quintic of Jordan et al.: steep at 0, and near 1 after five turns.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
TURNS = 5
MOMENTUM = 0.95


def orthogonalised(matrices: Tensor) -> Tensor:
    r"""Bring all singular values of (..., m, n) matrices near 1, by five Newton-Schulz turns.

    :math:`X \leftarrow X / \lVert X \rVert_F`, then five times :math:`X \leftarrow a X + b (X X^T) X + c (X X^T)^2 X`
    with (a, b, c) = (3.4445, -4.7750, 2.0315): singular vectors stay, each singular value s becomes a s + b s^3 +
    c s^5. Those above 0.002 of the norm end between 0.68 and 1.21. Computed in the format of the input (the authors:
    bfloat16).
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(TURNS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


@final
class Muon(torch.optim.Optimizer):
    r"""Muon (Jordan et al., 2024), with the scale of Moonlight (Liu et al., 2025).

    A group of ``groups`` g > 0 holds filters or matrices (out, ...), each of which counts as g matrices W of (out / g)
    rows, one per group of a convolution, and inputs times kernel pixels as columns. For each, with gradient G:
    :math:`M \leftarrow 0.95 M + 0.05 G`; :math:`U = 0.05\,G + 0.95 M` (Nesterov); :math:`W \leftarrow (1 - \eta
    \lambda) W - 0.2 \sqrt{\max(m, n)}\, \eta \operatorname{orthogonalised}(U)`. The factor makes steps as long as those
    of AdamW, entry by entry on average, so one learning rate and decay serve all groups; Jordan's own is
    :math:`\sqrt{\max(1, m / n)}`, and needs another rate. A group of 0 takes AdamW's steps (betas 0.9, 0.999).

    On matrices these are the steps of ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, which takes no
    filters, and rounds to bfloat16.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0, "groups": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; ``closure`` is not used."""
        for group in self.param_groups:
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["groups"]:
                for parameter in learning:
                    self._turn(parameter, group)
            else:
                self._adamw(learning, group)

    def _turn(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad, state = parameter.grad, self.state[parameter]
        assert grad is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(grad, 1 - MOMENTUM)
        matrices = grad.lerp(momentum, MOMENTUM).reshape(group["groups"], len(parameter) // group["groups"], -1)
        length = 0.2 * sqrt(max(matrices.shape[1:])) * group["lr"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(orthogonalised(matrices).reshape(parameter.shape), alpha=length)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        means, squares, steps = ([state[name] for state in states] for name in ("mean", "square", "step"))
        adamw(
            parameters, [p.grad for p in parameters if p.grad is not None], means, squares, [], steps, amsgrad=False,
            beta1=0.9, beta2=0.999, lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8, maximize=False,
        )  # fmt: skip
