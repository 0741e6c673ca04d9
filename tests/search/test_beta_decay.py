"""The regularizer of beta-DARTS by hand, and its gradient in both orders."""

import math

import pytest
import torch
from torch.nn import functional

from binarch.search.beta_decay import beta_rate, beta_regularizer
from binarch.search.second_order import unrolled_gradient


def test_the_value_by_hand() -> None:
    normal = torch.tensor([[0.0, 0.0], [math.log(2), math.log(3)]])
    reduce = torch.tensor([[1.0, 1.0]])
    expected = (math.log(2) + math.log(5) + 1 + math.log(2)) / 3
    assert float(beta_regularizer([normal, reduce])) == pytest.approx(expected)


def test_the_gradient_is_the_softmax_over_the_number_of_edges() -> None:
    torch.manual_seed(0)
    tables = [torch.randn(14, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    beta_regularizer(tables).backward()
    for table in tables:
        torch.testing.assert_close(table.grad, table.detach().softmax(1) / 28)
    assert torch.autograd.gradcheck(lambda *given: beta_regularizer(given), tables)


def test_the_weight_grows_in_a_line() -> None:
    assert beta_rate(25, 0, 50) == 0
    assert beta_rate(25, 49, 50) == pytest.approx(24.5)
    assert [beta_rate(50, epoch, 100) for epoch in (1, 7)] == [0.5, 3.5]  # the public code: half the epoch
    assert beta_rate(0, 7, 10) == 0


def test_it_adds_its_gradient_to_the_one_of_second_order() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(2, 8, 5, dtype=torch.float64), torch.randint(0, 3, (2, 8))
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    alphas = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def loss(batch: int) -> torch.Tensor:
        logits = functional.linear(x[batch], weight).tanh() @ torch.diag(alphas.softmax(1).sum(0))
        return functional.cross_entropy(logits, y[batch])

    (plain,) = unrolled_gradient(lambda: loss(0), lambda: loss(1), [weight], [alphas], list, 0.2)
    (added,) = unrolled_gradient(
        lambda: loss(0), lambda: loss(1) + 3 * beta_regularizer([alphas]), [weight], [alphas], list, 0.2
    )
    torch.testing.assert_close(added - plain, 3 * alphas.detach().softmax(1) / 2)
