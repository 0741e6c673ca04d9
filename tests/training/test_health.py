"""Flipped weights and stuck activations: counted by hand, and asked for without a trace."""

import copy

import pytest
import torch
from torch import Tensor, nn

from binarch.nn import SCHEMES, QuantConv2d, QuantLayer, binarize_, find_scheme
from binarch.nn.scheme import Scheme
from binarch.quantizers import ClosedSign, HalfWave, LqActivation, PolynomialSign, Sign
from binarch.training.health import Health

torch.set_num_threads(1)


def network(scheme: str | Scheme, seed: int = 0, where: str = "inner") -> nn.Sequential:
    """Stem, two convolutions in the middle, a classifier; norms with numbers of their own."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 36, 4),
    )  # fmt: skip
    binarize_(made, scheme, where=where)  # type: ignore[arg-type]
    for module in made:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.1, 3)
    return made


def images(seed: int = 1) -> Tensor:
    return torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def quantized(made: nn.Module) -> list[QuantLayer]:
    return [module for module in made.modules() if isinstance(module, QuantLayer)]


def test_flips_counted_by_hand() -> None:
    made = network("hwgq")
    first, second = quantized(made)
    assert (first.weight.numel(), second.weight.numel()) == (576, 864)
    health = Health(made)
    assert health.row(images())["flip_ratio"] == 0
    with torch.no_grad():
        first.weight[0, 0] *= -1  # nine flips
        first.weight[1] *= 5  # none
        second.weight[2, 3, 1, 1] *= -3  # one
    assert health.row(images())["flip_ratio"] == 10 / 1440
    assert health.row(images())["flip_ratio"] == 10 / 1440
    health.begin_epoch()
    assert health.row(images())["flip_ratio"] == 0
    with torch.no_grad():
        first.weight[0, 0] *= -1
    assert health.row(images())["flip_ratio"] == 9 / 1440


def test_a_weight_that_leaves_zero_flips_too() -> None:
    made = network("ttq")
    layer = quantized(made)[0]
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[0] = 0.0  # 72 zeros
    health = Health(made)
    with torch.no_grad():
        layer.weight[0, 0] = -0.5  # nine of them become -1
        layer.weight[1, 0, 0, 0] = 0.04  # one becomes 0
    assert health.row(images())["flip_ratio"] == 10 / 1440


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_has_its_numbers(name: str) -> None:
    made = network(name, where="all" if find_scheme(name).where == "all" else "inner")
    health = Health(made)
    row = health.row(images())
    assert row.pop("flip_ratio") == 0
    stepping = find_scheme(name).bits[1] < 32
    assert list(row) == ["saturated"] * stepping
    assert all(0 < share < 1 for share in row.values())
    with torch.no_grad():
        for layer in quantized(made):
            layer.weight.neg_()
    assert health.row(images())["flip_ratio"] > 0.8  # but for codes of zero


def test_a_real_network_has_none_and_a_first_stage_only_one() -> None:
    assert Health(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).row(images()) == {}
    assert set(Health(network(find_scheme("bats").with_real_weights())).row(images())) == {"saturated"}


#: Where a quantizer passes no gradient. Hard tanh leaves nothing beyond 1, so what it cut is at 1 exactly.
STUCK = {
    "bats": (Sign, lambda x: (x <= -1) | (x >= 1)),
    "bnn": (ClosedSign, lambda x: (x == -1) | (x == 1)),
    "cbcn": (PolynomialSign, lambda x: (x <= -1) | (x >= 1)),
    "hwgq": (HalfWave, lambda x: (x <= 0) | (x > 3 * 0.538)),
    "lq-net": (LqActivation, lambda x: x > 0.6745 * 2),
}


@pytest.mark.parametrize("name", STUCK)
def test_stuck_activations_are_those_of_a_direct_count(name: str) -> None:
    kind, stuck = STUCK[name]
    made = network(name).eval()
    batch, counts = images(), [0, 0]
    with torch.no_grad():
        for at, module in enumerate(made):
            if isinstance(module, QuantConv2d):
                assert isinstance(module.activation_quantizer, kind)
                x = made[:at](batch)
                counts = [counts[0] + int(stuck(x).sum()), counts[1] + x.numel()]
    assert counts[1] == 2 * 5 * 8 * 36
    assert 0 < counts[0] < counts[1]
    assert Health(made).row(batch)["saturated"] == counts[0] / counts[1]


@pytest.mark.parametrize("name", SCHEMES)
def test_asking_changes_nothing(name: str) -> None:
    made = network(name).train()
    made[1].eval()  # a frozen norm
    made(images(2)).sum().backward()
    health = Health(made)
    state = copy.deepcopy(made.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in made.parameters()]
    modes, numbers = [m.training for m in made.modules()], torch.get_rng_state()
    health.row(images())
    health.begin_epoch()
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [m.training for m in made.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in made.state_dict().items())
    for parameter, gradient in zip(made.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if parameter.grad is not None and gradient is not None:
            assert torch.equal(parameter.grad, gradient)
    assert not any(m._forward_pre_hooks for m in made.modules())


def test_what_was_remembered_can_be_kept_and_taken_up() -> None:
    made = network("bats")
    health = Health(made)
    with torch.no_grad():
        quantized(made)[0].weight[:2] *= -1
    ratio = health.row(images())["flip_ratio"]
    again = Health(made)
    assert again.row(images())["flip_ratio"] == 0
    again.load_state(copy.deepcopy(health.state()))
    assert again.row(images())["flip_ratio"] == ratio > 0
