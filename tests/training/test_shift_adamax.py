"""The shift-based AdaMax against its formula, number by number."""

import math

import pytest
import torch

from binarch.training.shift_adamax import ShiftAdaMax


def power(x: float) -> float:
    """The nearest power of two on a logarithmic scale."""
    return math.copysign(2.0 ** round(math.log2(abs(x))), x) if x else 0.0


def test_steps_follow_the_formula_and_stay_in_the_box() -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.tensor([0.5, -0.9, 0.999], dtype=torch.float64))
    optimizer = ShiftAdaMax([parameter], lr=0.05)
    values, mean, largest = parameter.tolist(), [0.0] * 3, [0.0] * 3
    for t in range(1, 30):
        grad = torch.randn(3, dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.01]) - torch.tensor([0.0, 0.0, 0.02])
        parameter.grad = grad.clone()
        optimizer.step()
        for i, g in enumerate(grad.tolist()):
            mean[i] = 0.9 * mean[i] + 0.1 * g
            largest[i] = power(max(0.999 * largest[i], abs(g))) + 2**-27
            step = power(0.05 / (1 - 0.9**t)) * mean[i] / largest[i]
            values[i] = min(1.0, max(-1.0, values[i] - step))
        assert parameter.tolist() == pytest.approx(values, rel=1e-6)
    assert max(map(abs, values)) <= 1


def test_its_state_continues_exactly() -> None:
    def run(steps: int, state: dict | None, parameter: torch.nn.Parameter, first: int) -> ShiftAdaMax:
        optimizer = ShiftAdaMax([parameter], lr=0.1)
        if state is not None:
            optimizer.load_state_dict(state)
        for t in range(first, first + steps):
            parameter.grad = torch.full_like(parameter, 0.3 * (-1) ** t)
            optimizer.step()
        return optimizer

    whole, halves = (torch.nn.Parameter(torch.tensor([0.2, 0.4])) for _ in range(2))
    run(6, None, whole, 0)
    run(3, run(3, None, halves, 0).state_dict(), halves, 3)
    assert torch.equal(whole, halves)
