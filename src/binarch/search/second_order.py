"""The second-order gradient of DARTS: how the alphas should move, given how the weights will answer."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: The finite difference moves all weights together by this distance; smaller ones drown in float32's rounding.
DISTANCE = 0.01


def unrolled_gradient(
    training_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    steps: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    rate: float,
    total: Callable[[Sequence[Tensor]], Sequence[Tensor]] = tuple,
) -> list[Tensor]:
    r"""The gradient of the validation loss after one step of the weights, with respect to the alphas.

    With the next iterate :math:`w' = w - \xi\,s(\nabla_w L_{train}(w, \alpha))` (``steps`` makes the step s of the
    gradients: momentum and decay included; :math:`\xi` is ``rate``), :math:`v = \nabla_{w'} L_{val}(w', \alpha)`,
    :math:`R = 0.01 / \lVert v \rVert` and :math:`w^\pm = w \pm R v`:

    .. math:: \nabla_\alpha L_{val}(w', \alpha) - \xi\,
              \frac{\nabla_\alpha L_{train}(w^+, \alpha) - \nabla_\alpha L_{train}(w^-, \alpha)}{2 R}.

    Liu, Simonyan and Yang, ICLR 2019, equations 7 and 8. The decay of the weights does not depend on the alphas, so it
    has no part in the difference; the clip of the real step is ignored, as there. ``weights`` and ``alphas`` are leaves
    that ask for gradients; weights are put back bit for bit from copies (the public code adds, and drifts). Four passes
    forward and backward, of the five of a whole step; in the last two only the alphas ask for gradients.

    ``total`` sums gradients over the ranks that share a step; each gives its losses times its share of the batch.
    """
    start = [weight.detach().clone() for weight in weights]
    gradients = total(torch.autograd.grad(training_loss(), weights))
    try:
        _move(weights, start, steps(gradients), -rate)
        found = total(torch.autograd.grad(validation_loss(), [*alphas, *weights]))
        direct, along = list(found[: len(alphas)]), found[len(alphas) :]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(v) for v in along]))
        if not norm > 0:
            return direct
        distance = float(DISTANCE / norm)
        _ask(weights, False)
        _move(weights, start, along, distance)
        ahead = total(torch.autograd.grad(training_loss(), alphas))
        _move(weights, start, along, -distance)
        behind = total(torch.autograd.grad(training_loss(), alphas))
    finally:
        _ask(weights, True)
        _move(weights, start, start, 0.0)
    answers = [(plus - minus) / (2 * distance) for plus, minus in zip(ahead, behind, strict=True)]
    return [own - rate * answer for own, answer in zip(direct, answers, strict=True)]


def sgd_steps(optimizer: torch.optim.SGD, weights: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """The step, before the rate, that ``optimizer`` would take: momentum * buffer + gradient + decay * weight."""
    settings = {weight: group for group in optimizer.param_groups for weight in group["params"]}

    def steps(gradients: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for weight, gradient in zip(weights, gradients, strict=True):
            group, buffer = settings[weight], optimizer.state[weight].get("momentum_buffer")
            step = gradient + group["weight_decay"] * weight.detach()
            found.append(step if buffer is None else step + group["momentum"] * buffer)
        return found

    return steps


def _ask(weights: Sequence[Tensor], gradients: bool) -> None:
    for weight in weights:
        weight.requires_grad_(gradients)


@torch.no_grad()
def _move(weights: Sequence[Tensor], start: Sequence[Tensor], along: Sequence[Tensor], distance: float) -> None:
    """Weights to start + distance * along."""
    for weight, origin, direction in zip(weights, start, along, strict=True):
        weight.copy_(origin if distance == 0 else torch.add(origin, direction, alpha=distance))
