"""The second-order gradient: a bilevel toy, finite differences against double backward, and no traces left."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import DataConfig, load
from binarch.errors import UserError
from binarch.nn import Binarization
from binarch.runs import RunFolder
from binarch.search import SearchConfig
from binarch.search.differentiable import halves
from binarch.search.operations import EdgeOperations
from binarch.search.search_task import SearchTask
from binarch.search.second_order import sgd_steps, unrolled_gradient
from binarch.search.supernet import Supernet
from binarch.spaces import Bats, Darts
from binarch.training.device import make_fabric


def plain(gradients: list[Tensor]) -> list[Tensor]:
    return list(gradients)


class Toy:
    """L_val = a w - 2 a + 1, L_train = w^2 - 2 a w + a^2: the weights answer with w = a, so a = 1 is the optimum."""

    def __init__(self, a: float, w: float) -> None:
        self.a = torch.tensor([a], dtype=torch.float64, requires_grad=True)
        self.w = torch.tensor([w], dtype=torch.float64, requires_grad=True)

    def validation(self) -> Tensor:
        return (self.a * self.w - 2 * self.a + 1).sum()

    def training(self) -> Tensor:
        return (self.w**2 - 2 * self.a * self.w + self.a**2).sum()

    def gradient(self, rate: float) -> float:
        (found,) = unrolled_gradient(self.training, self.validation, [self.w], [self.a], plain, rate)
        return float(found)


def test_the_gradients_of_the_toy() -> None:
    assert Toy(2, -2).gradient(0.0) == pytest.approx(-4)
    for a, w in ((2.0, -2.0), (0.3, 1.7)):  # a step of 0.5 jumps to w = a
        assert Toy(a, w).gradient(0.5) == pytest.approx(2 * a - 2)


@pytest.mark.parametrize("rate, end", [(0.0, 2.0), (0.5, 1.0)])
def test_only_the_second_order_finds_the_optimum(rate: float, end: float) -> None:
    toy = Toy(2, -2)
    for _ in range(2000):
        toy.a.data -= 0.05 * toy.gradient(rate)
        (slope,) = torch.autograd.grad(toy.training(), toy.w)
        toy.w.data -= 0.1 * slope
    assert (toy.a.item(), toy.w.item()) == (pytest.approx(end, abs=1e-3), pytest.approx(end, abs=1e-3))


class Mixed(nn.Module):
    """A smooth mixed operation between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)
        self.alpha = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        h, share = self.first(x), self.alpha.softmax(0)
        return self.second(share[0] * h.tanh() + share[1] * h.sigmoid() + share[2] * h)


@pytest.mark.parametrize("dtype, error", [(torch.float64, 1e-4), (torch.float32, 1e-3)])
def test_the_difference_agrees_with_double_backward(dtype: torch.dtype, error: float) -> None:
    torch.manual_seed(0)
    net = Mixed().to(dtype)
    x, y = torch.randn(2, 16, 5, dtype=dtype), torch.randint(0, 3, (2, 16))
    weights = [parameter for name, parameter in net.named_parameters() if name != "alpha"]
    names = [name for name, _ in net.named_parameters() if name != "alpha"]
    rate = 0.3

    def loss(batch: int) -> Tensor:
        return functional.cross_entropy(net(x[batch]), y[batch])

    (found,) = unrolled_gradient(lambda: loss(0), lambda: loss(1), weights, [net.alpha], plain, rate)
    steps = torch.autograd.grad(loss(0), weights, create_graph=True)
    moved = {name: w - rate * step for name, w, step in zip(names, weights, steps, strict=True)}
    output = torch.func.functional_call(net, moved, (x[1],))
    (exact,) = torch.autograd.grad(functional.cross_entropy(output, y[1]), net.alpha)
    (first,) = torch.autograd.grad(loss(1), net.alpha)
    assert (found - exact).norm() / exact.norm() < error
    assert (first - exact).norm() / exact.norm() > 10 * error  # it is not the first order in disguise


@pytest.mark.parametrize("warm", [0, 3])
def test_the_unrolled_step_is_the_next_one_of_sgd(warm: int) -> None:
    torch.manual_seed(1)
    net = Mixed().double()
    weights = [parameter for name, parameter in net.named_parameters() if name != "alpha"]
    sgd = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.05)
    x, y = torch.randn(16, 5, dtype=torch.float64), torch.randint(0, 3, (16,))

    def step() -> None:
        sgd.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        sgd.step()

    for _ in range(warm):
        step()
    before = [weight.detach().clone() for weight in weights]
    gradients = torch.autograd.grad(functional.cross_entropy(net(x), y), weights)
    foretold = [w - 0.1 * s for w, s in zip(before, sgd_steps(sgd, weights)(gradients), strict=True)]
    step()
    for weight, expected in zip(weights, foretold, strict=True):
        assert (weight - expected).abs().max() < 1e-7


@pytest.mark.parametrize("space", [Bats(Binarization("activations"), 2), Darts(Binarization("none"))])
def test_a_supernet_is_left_bit_for_bit_as_it_was(space: Bats | Darts) -> None:
    torch.manual_seed(2)
    full = EdgeOperations.full(space.rules)
    net = Supernet(space, {"normal": full, "reduce": full}, channels=4, cells=3, classes=4)
    net.learn("both")
    x, y = torch.randn(2, 4, 3, 8, 8), torch.randint(0, 4, (2, 4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    alphas = net.architecture_parameters()

    def loss(batch: int) -> Tensor:
        return functional.cross_entropy(net(x[batch]), y[batch])

    found = unrolled_gradient(lambda: loss(0), lambda: loss(1), net.weight_parameters(), alphas, plain, 0.05)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [gradient.shape for gradient in found] == [alpha.shape for alpha in alphas]
    assert all(gradient.isfinite().all() and gradient.any() for gradient in found)


def test_all_passes_over_the_training_batch_drop_the_same_numbers(tmp_path: Path) -> None:
    config = SearchConfig(
        data=DataConfig(limit=40), strategy="darts-second", space="darts", cells=(3,), channels=4, batch_size=10,
        skip_dropout=(0.5,),
    )  # fmt: skip
    dataset, fabric = load(config.data), make_fabric("cpu", "32")
    task = SearchTask(config, 0, 0, dataset, halves(dataset, fabric), fabric, RunFolder(tmp_path), None)
    dropped: list[list[Tensor]] = [[]]
    hooks = [task.supernet.skip_dropout.register_forward_hook(lambda _, __, y: dropped[-1].append(y.detach() == 0))]
    hooks += [task.supernet.stem.register_forward_pre_hook(lambda *_: dropped.append([]))]
    torch.manual_seed(5)
    task.step(0, 0)
    first, validation, ahead, behind, real = (passes for passes in dropped[1:])
    assert first
    for other in (ahead, behind, real):
        assert [one.shape for one in first] == [one.shape for one in other]
    zeros = [sum(int(mask.sum()) for mask in passes) for passes in (first, validation, ahead, behind, real)]
    assert zeros[0] == zeros[2] == zeros[3] == zeros[4] != zeros[1]


def test_bfloat16_is_refused_and_never_chosen() -> None:
    with pytest.raises(UserError, match="precision: bf16"):
        SearchConfig(strategy="darts-second", space="darts", precision="bf16")
    assert SearchConfig(strategy="darts-second", space="darts").supernet_precision == "32"
    assert SearchConfig(strategy="darts", space="darts").supernet_precision == "auto"


def test_weights_come_back_when_a_loss_fails() -> None:
    toy = Toy(2, -2)

    def broken() -> Tensor:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        unrolled_gradient(toy.training, broken, [toy.w], [toy.a], plain, 0.5)
    assert toy.w.item() == -2
