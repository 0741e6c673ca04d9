"""The auxiliary skip: its schedule, its sum by hand, and its absence where it has no weight."""

import pytest
import torch

from binarch.nn import Binarization
from binarch.search import EdgeOperations, Mixture, Supernet
from binarch.search.auxiliary_skip import auxiliary_skip_rate
from binarch.search.naive import MixedOperation
from binarch.search.skip_dropout import SkipDropout
from binarch.spaces import Bats, Darts, Space

SPACES = [Bats(Binarization("activations"), 2), Darts(Binarization("none"))]


def supernet(space: Space, *, auxiliary_skip: bool, fast: bool = True) -> Supernet:
    torch.manual_seed(0)
    full = EdgeOperations.full(space.rules)
    return Supernet(
        space, {"normal": full, "reduce": full},
        channels=4, cells=3, classes=3, fast=fast, auxiliary_skip=auxiliary_skip,
    )  # fmt: skip


def test_the_weight_falls_in_a_line() -> None:
    assert auxiliary_skip_rate(0, 50) == 1
    assert auxiliary_skip_rate(25, 50) == 0.5
    assert auxiliary_skip_rate(49, 50) == pytest.approx(0.02)
    assert auxiliary_skip_rate(0, 1) == 1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("space", SPACES)
def test_a_mixed_operation_with_it_is_the_written_sum(space: Space, stride: int) -> None:
    names = ("max_pool_3x3", "sep_conv_3x3")
    mixed = MixedOperation(space, names, 4, stride, SkipDropout(), auxiliary_skip=True)
    x = torch.randn(3, 4, 6, 6)
    weights = torch.tensor([0.3, 0.7])
    skip = x if stride == 1 else mixed.auxiliary_skip(x)
    plain = 0.3 * mixed.operations[0](x) + 0.7 * mixed.operations[1](x)
    torch.testing.assert_close(mixed(x, weights, 0.25), plain + 0.25 * skip)
    torch.testing.assert_close(mixed(x, 0.1 * weights, 0.25), 0.1 * (plain + 0.25 * skip))  # an edge of weight 0.1


def test_dropout_on_skips_leaves_it_alone() -> None:
    mixed = MixedOperation(SPACES[1], ("skip_connect",), 4, 1, SkipDropout(0.999), auxiliary_skip=True)
    x = torch.ones(1, 4, 4, 4)
    y = mixed(x, torch.ones(1), 0.5)
    assert (y == 0.5).float().mean() > 0.9


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_without_weight_it_is_not_there(space: Space, fast: bool) -> None:
    on, off = (supernet(space, auxiliary_skip=which, fast=fast) for which in (True, False))
    extra = off.load_state_dict(on.state_dict(), strict=False)
    assert not extra.missing_keys
    assert extra.unexpected_keys
    assert all("auxiliary" in name for name in extra.unexpected_keys)
    assert len(on.architecture_parameters()) == 2
    images = torch.randn(4, 3, 8, 8)
    on.set_auxiliary_skip(0.0)
    assert torch.equal(on(images), off(images))
    on.set_auxiliary_skip(0.5)
    assert not torch.allclose(on(images), off(images), atol=1e-3)
    derived = Mixture(*(weights.detach() for weights in off.mixture()))
    assert torch.equal(on(images, derived), off(images))  # a mixture from outside is that of a derived cell
