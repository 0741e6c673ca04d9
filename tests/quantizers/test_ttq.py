"""TTQ: three values per layer, two of them learned."""

import pytest
import torch
from gradients import assert_linear, backward, random, tensor
from torch import Tensor

from binarch.errors import UserError
from binarch.quantizers import TrainedTernary

W, G = [0.9, 0.04, -0.03, -0.5, 0.05], [1.0, 2.0, 3.0, 4.0, 5.0]


def ternary(positive: float = 0.7, negative: float = 0.4, threshold: float = 0.05) -> TrainedTernary:
    quantizer = TrainedTernary(threshold).double()
    quantizer.positive.data.fill_(positive)
    quantizer.negative.data.fill_(negative)
    return quantizer


def loss(w: Tensor, positive: float, negative: float) -> float:
    return (tensor(G) * ternary(positive, negative)(w)).sum().item()


def test_fixed_weights() -> None:
    quantizer = ternary()
    y, gradient = backward(quantizer, W, G)
    torch.testing.assert_close(y, tensor([0.7, 0, 0, -0.4, 0.7]))
    torch.testing.assert_close(gradient, tensor([0.7, 2, 3, 1.6, 3.5]))
    quantizer(tensor(W)).backward(tensor(G))
    assert quantizer.positive.grad.item() == 6
    assert quantizer.negative.grad.item() == -4


def test_gradients_of_the_values_are_finite_differences() -> None:
    w, h = tensor(W), 1e-6
    assert (loss(w, 0.7 + h, 0.4) - loss(w, 0.7 - h, 0.4)) / (2 * h) == pytest.approx(6)
    assert (loss(w, 0.7, 0.4 + h) - loss(w, 0.7, 0.4 - h)) / (2 * h) == pytest.approx(-4)


def test_exactly_at_the_threshold_is_zero() -> None:
    y, gradient = backward(ternary(threshold=0.25), [1.0, 0.25, -0.25, 0.2501, -0.2501, 0.0], [1.0] * 6)
    torch.testing.assert_close(y, tensor([0.7, 0, 0, 0.7, -0.4, 0]))
    torch.testing.assert_close(gradient, tensor([0.7, 1, 1, 0.7, 0.4, 1]))


def test_written_formulas_on_random_weights() -> None:
    w, g = random(8, 4, 3, 3, spread=0.1), random(8, 4, 3, 3, seed=1)
    quantizer = ternary(0.6, 1.3, 0.3)
    y, gradient = backward(quantizer, w, g)
    above, below = w > 0.3 * w.abs().max(), w < -0.3 * w.abs().max()
    assert above.any()
    assert below.any()
    torch.testing.assert_close(y, 0.6 * above - 1.3 * below.double())
    torch.testing.assert_close(gradient, g * (1 + above * (0.6 - 1) + below * (1.3 - 1)))
    assert len(y.unique()) == 3
    quantizer(w).backward(g)
    torch.testing.assert_close(quantizer.positive.grad, g[above].sum())
    torch.testing.assert_close(quantizer.negative.grad, -g[below].sum())


def test_nothing_passes_through_the_threshold_and_nothing_is_clipped() -> None:
    """The largest weight sets the threshold; its gradient is W_p g like that of the others."""
    assert backward(ternary(), [50.0, 10.0, -10.0], [1.0, 0.0, 0.0])[1].tolist() == [0.7, 0, 0]
    assert_linear(ternary(), random(60, spread=3))


def test_values_start_at_one_and_are_learned() -> None:
    quantizer = TrainedTernary()
    assert {name: value.item() for name, value in quantizer.named_parameters()} == {"positive": 1, "negative": 1}
    assert quantizer(torch.tensor(W)).tolist() == [1, 0, 0, -1, 1]
    assert quantizer(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_an_impossible_threshold_is_named(threshold: float) -> None:
    with pytest.raises(UserError, match="threshold: "):
        TrainedTernary(threshold)
