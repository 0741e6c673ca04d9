"""The squared hinge loss, against a loop and finite differences; and which loss is taken."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from binarch.training.loss import loss_of, squared_hinge


def looped(logits: list[list[float]], labels: list[int]) -> float:
    terms = []
    for row, label in zip(logits, labels, strict=True):
        for index, value in enumerate(row):
            target = 1 if index == label else -1
            terms.append(max(0.0, 1 - target * value) ** 2)
    return sum(terms) / len(terms)


def some(seed: int, images: int = 7, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (images,), generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_squared_hinge_is_the_loop(seed: int) -> None:
    logits, labels = some(seed)
    assert squared_hinge(logits, labels).item() == pytest.approx(looped(logits.tolist(), labels.tolist()))


def test_squared_hinge_by_hand() -> None:
    logits = torch.tensor([[3.0, -1.0, 0.0], [0.5, 0.5, -2.0]])
    # first image, class 0: 0, 0, 1; second, class 2: 1.5^2, 1.5^2, 3^2
    assert squared_hinge(logits, torch.tensor([0, 2])).item() == pytest.approx((1 + 2.25 + 2.25 + 9) / 6)
    assert squared_hinge(torch.tensor([[1.0, -1.0], [-5.0, 5.0]]), torch.tensor([0, 1])).item() == 0


def test_its_gradient() -> None:
    logits, labels = some(3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: squared_hinge(x, labels), (logits,))
    (slope,) = torch.autograd.grad(squared_hinge(logits, labels), logits)
    sign = torch.where(functional.one_hot(labels, 5) > 0, 1.0, -1.0).double()
    margin = (1 - sign * logits.detach()).clamp(min=0)
    torch.testing.assert_close(slope, -2 * sign * margin / logits.numel())
    assert (slope[margin == 0] == 0).all()
    assert (margin == 0).any()


def test_short_floats_keep_their_type() -> None:
    assert squared_hinge(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.bfloat16


def test_the_named_loss_is_taken() -> None:
    logits, labels = some(4)
    assert torch.equal(loss_of("squared_hinge", logits, labels, 0.3), squared_hinge(logits, labels))
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.3)
    assert torch.equal(loss_of("cross_entropy", logits, labels, 0.3), expected)
    assert loss_of("cross_entropy", logits, labels, 0.0) != expected
