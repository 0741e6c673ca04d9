"""The fast cells against the naive ones, and the supernet's own promises."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn import Binarization
from binarch.quantizers import Sign
from binarch.search import EdgeOperations, Mixture, Supernet
from binarch.search.naive import NaiveCell
from binarch.search.supernet import fast_cell
from binarch.spaces import Bats, CellRules, Darts, Space

MODES = ("bats-none", "bats-activations", "bats-both", "bats-scaled", "darts")


def space_of(mode: str, groups: int = 4) -> Space:
    if mode == "darts":
        return Darts(Binarization("none"))
    kind = mode.partition("-")[2]
    return Bats(Binarization("activations", output_scale=True) if kind == "scaled" else Binarization(kind), groups)


def uneven(space: Space) -> EdgeOperations:
    """Three different candidates on every edge, always one with filters."""
    names = space.rules.candidates
    full = EdgeOperations.full(space.rules)
    picks = [tuple(names[(edge * 3 + k * 5) % 8] for k in range(3)) for edge in range(len(full.names))]
    return EdgeOperations(full.nodes, tuple(tuple(sorted(pick, key=names.index)) for pick in picks))


def build(space: Space, operations: EdgeOperations, *, fast: bool, cells: int = 3, **repairs: int) -> Supernet:
    torch.manual_seed(0)
    return Supernet(
        space,
        {"normal": operations, "reduce": operations},
        channels=8, cells=cells, classes=5, temperature=0.2, fast=fast, **repairs,
    )  # fmt: skip


def images_without_ties(supernet: Supernet, size: int) -> torch.Tensor:
    """Images for which no activation is zero but for rounding: there the sign is a matter of the order of sums."""
    smallest: list[float] = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, __: smallest.append(float(inputs[0].abs().min())))
        for module in supernet.modules()
        if isinstance(module, Sign)
    ]
    for seed in range(100):
        smallest.clear()
        images = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            supernet(images)
        if min(smallest, default=1.0) > 1e-9:
            break
    else:
        raise AssertionError("a tie in every draw")
    for hook in hooks:
        hook.remove()
    return images


def fast_gradients(naive: Supernet, space: Space) -> Iterator[torch.Tensor]:
    """The naive supernet's gradients in the arrangement of the fast one: stack a copy whose weights they are."""
    for parameter in naive.parameters():
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    for index, cell in enumerate(naive.cells):
        naive.cells[index] = fast_cell(cell, space)
    return naive.parameters()


def compare(mode: str, operations: str, size: int, **repairs: int) -> None:
    """Outputs and all gradients of both forms, in double precision."""
    space = space_of(mode)
    edges = EdgeOperations.full(space.rules) if operations == "full" else uneven(space)
    naive, fast = (build(space, edges, fast=fast, **repairs).double() for fast in (False, True))
    labels = torch.tensor([0, 3, 1, 4, 4])
    for supernet in (naive, fast):
        supernet.set_auxiliary_skip(0.6)
        torch.manual_seed(2)
        with torch.no_grad():  # alphas far from uniform
            for alphas in supernet.architecture_parameters():
                alphas.copy_(0.3 * torch.randn_like(alphas))
    images = images_without_ties(naive, size)
    outputs = [supernet(images) for supernet in (naive, fast)]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-10, rtol=1e-10)
    for output in outputs:
        functional.cross_entropy(output, labels).backward()
    expected = list(fast_gradients(naive, space))
    for (name, parameter), gradient in zip(fast.named_parameters(), expected, strict=True):
        given = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(given, gradient.detach(), atol=1e-8, rtol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("size", [8, 10], ids=["even", "odd after halving"])
@pytest.mark.parametrize("operations", ["full", "uneven"])
@pytest.mark.parametrize("mode", MODES)
def test_fast_equals_naive_in_outputs_and_all_gradients(mode: str, operations: str, size: int) -> None:
    compare(mode, operations, size)


PARTIAL, AUXILIARY = {"partial": 2}, {"auxiliary_skip": True}


@pytest.mark.parametrize(
    ("mode", "operations", "size", "repairs"),
    [
        *((mode, "uneven", 10, PARTIAL | AUXILIARY) for mode in MODES),
        ("bats-activations", "full", 8, PARTIAL),
        ("darts", "full", 8, PARTIAL),
        ("bats-both", "full", 8, AUXILIARY),
        ("darts", "full", 8, AUXILIARY),
    ],
)
def test_fast_equals_naive_with_repairs(mode: str, operations: str, size: int, repairs: dict[str, int]) -> None:
    compare(mode, operations, size, **repairs)


@pytest.mark.parametrize("mode", MODES)
def test_fast_equals_naive_to_1e_5_in_single_precision(mode: str) -> None:
    space = space_of(mode)
    edges = EdgeOperations.full(space.rules)
    naive, fast = (build(space, edges, fast=fast).to(memory_format=torch.channels_last) for fast in (False, True))
    torch.manual_seed(3)
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast(images), naive(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "repairs"), [*((mode, {}) for mode in MODES), *((mode, PARTIAL | AUXILIARY) for mode in MODES[1:4:2])]
)
def test_alphas_have_the_same_gradient_when_only_they_learn(mode: str, repairs: dict[str, int]) -> None:
    supernet = build(space_of(mode), EdgeOperations.full(Space.rules), fast=True, **repairs).double()
    supernet.set_auxiliary_skip(0.6)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    functional.cross_entropy(supernet(images), torch.tensor([0, 1, 2])).backward()
    expected = [alphas.grad.clone() for alphas in supernet.architecture_parameters()]
    supernet.zero_grad()
    supernet.learn("alphas")
    functional.cross_entropy(supernet(images), torch.tensor([0, 1, 2])).backward()
    for alphas, gradient in zip(supernet.architecture_parameters(), expected, strict=True):
        torch.testing.assert_close(alphas.grad, gradient, atol=1e-9, rtol=1e-6)
    assert all(weight.grad is None for weight in supernet.weight_parameters())


def test_darts_supernet_has_the_published_number_of_parameters() -> None:
    space = Darts(Binarization("none"))
    edges = EdgeOperations.full(space.rules)
    for classes, expected in ((10, 1_930_618), (100, 1_953_748)):
        for fast in (False, True):
            operations = {"normal": edges, "reduce": edges}
            supernet = Supernet(space, operations, channels=16, cells=8, classes=classes, fast=fast)
            assert sum(weight.numel() for weight in supernet.weight_parameters()) == expected
    operations = {"normal": edges, "reduce": edges}
    stage1 = Supernet(space, operations, channels=16, cells=5, classes=10)
    assert sum(weight.numel() for weight in stage1.weight_parameters()) == 1_275_834


def test_temperature_sharpens_and_scales_the_gradient() -> None:
    space = Darts(Binarization("none"))
    edges = EdgeOperations.full(space.rules)
    alphas = torch.linspace(-1, 1, 14 * 8).view(14, 8)
    gradients = {}
    for temperature in (1.0, 0.1, 1e-3):
        supernet = Supernet(
            space, {"normal": edges, "reduce": edges}, channels=4, cells=3, classes=2, temperature=temperature
        )
        with torch.no_grad():
            supernet.alphas_normal.copy_(alphas * temperature)
        weights = supernet.mixture().normal
        torch.testing.assert_close(weights, torch.softmax(alphas, 1), atol=1e-6, rtol=1e-6)
        weights[0, 0].backward()
        gradients[temperature] = supernet.alphas_normal.grad[0, 0]
    torch.testing.assert_close(gradients[0.1], gradients[1.0] * 10)
    sharp = torch.softmax(alphas / 1e-3, 1)
    torch.testing.assert_close(sharp, functional.one_hot(alphas.argmax(1), 8).float())


def test_a_mixture_given_from_outside_replaces_the_softmax() -> None:
    space = space_of("bats-activations")
    edges = EdgeOperations.full(space.rules)
    supernet = build(space, edges, fast=True)
    images = torch.randn(2, 3, 8, 8)
    same = supernet(images, Mixture(*(weights.detach() for weights in supernet.mixture())))
    torch.testing.assert_close(same, supernet(images))
    zero = torch.zeros(14, 8)
    nothing = supernet(images, Mixture(zero, zero))
    torch.testing.assert_close(nothing, supernet.classifier.bias.expand(2, -1), atol=1e-6, rtol=0)


def test_evaluation_leaves_no_trace() -> None:
    supernet = build(space_of("bats-both"), EdgeOperations.full(Space.rules), fast=True)
    supernet.stem[1].eval()
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    supernet.eval()
    with torch.no_grad():
        supernet(torch.randn(4, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"cells": 2}, "cells"),
        ({"channels": 6}, "channels"),
        ({"partial": 4}, r"^partial: 4 leaves 2 of 8 channels .* --partial"),
        ({"partial": 3}, r"^partial: 3 does not divide 8"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], words: str) -> None:
    edges = EdgeOperations.full(Space.rules)
    with pytest.raises(UserError, match=words):
        Supernet(
            space_of("bats-none"), {"normal": edges, "reduce": edges},
            **{"channels": 8, "cells": 3, "classes": 2, **settings},
        )  # fmt: skip


def test_operations_must_fill_every_edge_alike() -> None:
    with pytest.raises(UserError, match="14"):
        EdgeOperations(4, (("skip_connect",),) * 3)
    with pytest.raises(UserError, match="same number"):
        EdgeOperations(1, (("skip_connect",), ("skip_connect", "none")))


def test_naive_cell_is_the_written_sum() -> None:
    space = space_of("darts")
    operations = EdgeOperations.full(CellRules(("skip_connect", "max_pool_3x3"), nodes=2))
    cell = NaiveCell(space, operations, (4, 4), 4, reduction=False, halve_first=False)
    s0, s1, weights = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6), torch.rand(5, 2)
    x0, x1 = cell.preprocess0(s0), cell.preprocess1(s1)

    def pool(x: torch.Tensor) -> torch.Tensor:
        return nn.BatchNorm2d(4, affine=False)(functional.max_pool2d(x, 3, 1, 1))

    x2 = sum(w[0] * x + w[1] * pool(x) for w, x in zip(weights[:2], (x0, x1), strict=True))
    x3 = sum(w[0] * x + w[1] * pool(x) for w, x in zip(weights[2:], (x0, x1, x2), strict=True))
    torch.testing.assert_close(cell(s0, s1, weights), torch.cat([x2, x3], 1))
