"""Mining of interactions: what is kept, what stands still, what is learned, and that it finds what helps."""

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.deploy import pack_network
from binarch.models import NetworkConfig
from binarch.nn import QuantConv2d
from binarch.quantizers import MOST_EDGES, ClosedSign, Edge, Interaction
from binarch.runtime import Network, reference
from binarch.training.mining import MARGIN, Miner, Policy, interacting

torch.set_num_threads(1)


def catalogue(width: int = 8, seed: int = 0) -> nn.Module:
    """A CI-Net of five layers with the batch statistics of noise."""
    torch.manual_seed(seed)
    network = NetworkConfig(scheme="ci-net", width=width).build("vgg-small", 4, "both", 8)
    network.train()
    with torch.no_grad():
        network(torch.randn(32, 3, 8, 8))
    for table in tables(network):
        table.threshold, table.step = 8, 6
    return network.eval()


def batch(seed: int = 5, count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    return images, torch.randint(4, (count,), generator=generator)


def mine(miner: Miner, numbers: range, given: tuple[Tensor, Tensor]) -> list[float]:
    """Steps as a training does them: the generator seeded anew before each."""
    losses = []
    for number in numbers:
        torch.manual_seed(1000 + number)
        losses.append(float(miner.step(number, *given)[0]))
    return losses


def tables(network: nn.Module) -> list[Interaction]:
    return [module for module in network.modules() if isinstance(module, Interaction)]


def edges(network: nn.Module) -> list[list[Edge]]:
    return [table.edges for table in tables(network)]


@torch.no_grad()
def loss(network: nn.Module, given: tuple[Tensor, Tensor]) -> float:
    return float(functional.cross_entropy(network.eval()(given[0]), given[1]))


def only_mining(network: nn.Module) -> Callable[[], bool]:
    """A check that nothing but tables of edges differs from now."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    return lambda: all(
        torch.equal(value, before[name]) for name, value in network.state_dict().items() if not name.endswith(".table")
    )


class Hint(nn.Module):
    """Maps (N, 24, 1, 1) to two logits, the count of channel 1 down and up. Channel 0 would know better.

    Channel 0 sums what tells the class, channel 1 noise, channel 2 what tells the wrong class.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = QuantConv2d(
            24, 3, 1, weight_quantizer=ClosedSign(), activation_quantizer=ClosedSign(), correction=Interaction(6, 20)
        )
        weight = -torch.ones(3, 24)
        weight[0, :8] = weight[1, 8:16] = weight[2, 16:] = 1
        weight[:, ::2] *= -1
        self.layer.weight.data.copy_(weight.view(3, 24, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        student = self.layer(x)[:, 1, 0, 0] / 10
        return torch.stack([-student, student], 1)


def hints(seed: int = 0, count: int = 64) -> tuple[Tensor, Tensor]:
    """Inputs for which channel 0 counts +-8 with the class, channel 2 against it, channel 1 about nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    weight = Hint().layer.weight.detach().view(3, 24)
    x = torch.where(torch.rand(count, 24, generator=generator) < 0.5, 1.0, -1.0)
    x[:, :8] = (2 * labels - 1).view(-1, 1) * weight[0, :8]
    x[:, 16:] = (1 - 2 * labels).view(-1, 1) * weight[2, 16:]
    return x.view(count, 24, 1, 1), labels


def test_only_what_earned_a_reward_is_kept() -> None:
    network, given = catalogue(), batch()
    miner = Miner(network)
    assert (miner.tried, miner.kept, miner.edges) == (0, 0, 0)
    kept = []
    for number in range(40):
        before, value = edges(network), loss(network, given)
        torch.manual_seed(number)
        now, logits = miner.step(number, *given)
        after = edges(network)
        assert float(now) == pytest.approx(loss(network, given), rel=1e-6)  # of the edges as they are
        torch.testing.assert_close(logits, network.eval()(given[0]))
        kept.append(after != before)
        assert (miner.tried, miner.kept) == (number + 1, sum(kept))
        at = number % len(before)
        assert all(after[i] == before[i] for i in range(len(before)) if i != at)  # one layer at a time
        if after != before:
            assert abs(len(after[at]) - len(before[at])) == 1
            assert float(now) <= value + MARGIN  # a rise costs the reward
    assert 0 < sum(kept) < 40
    assert miner.edges == sum(map(len, edges(network)))


def test_nothing_but_edges_changes() -> None:
    network = catalogue()
    untouched, miner = only_mining(network), Miner(network)
    mine(miner, range(25), batch())
    assert miner.edges > 0
    assert untouched()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_policy_learns() -> None:
    network = catalogue()
    miner = Miner(network)
    before = [parameter.detach().clone() for parameter in miner.policy.parameters()]
    mine(miner, range(10), batch())
    assert all(not torch.equal(a, b) for a, b in zip(before, miner.policy.parameters(), strict=True))


def test_edges_are_of_the_layer_they_stand_in_and_no_pair_has_two() -> None:
    network = catalogue()
    mine(Miner(network), range(60), batch())
    for layer, found in zip(interacting(network), edges(network), strict=True):
        channels = layer.filter_shape[0]
        assert all(0 <= edge.teacher < channels and 0 <= edge.student < channels for edge in found)
        assert len({(edge.teacher, edge.student) for edge in found}) == len(found)


def test_a_full_table_stays_full_and_the_last_edge_makes_room() -> None:
    network, given = catalogue(width=16), batch()
    layer = tables(network)[-1]
    full = [Edge(t, s, 1) for t in range(20) for s in range(20) if t != s][:MOST_EDGES]
    layer.set_edges(full)
    layer.threshold = 10**6  # a teacher never speaks: all depends on who is surer
    miner, last, replaced = Miner(network), len(interacting(network)) - 1, 0
    for attempt in range(12):
        torch.manual_seed(attempt)
        before = layer.edges
        miner.step(last, *given)  # always an addition: the first round
        assert len(layer.edges) == MOST_EDGES
        assert layer.edges[:-1] == before[:-1]
        replaced += layer.edges[-1] != before[-1]
    assert replaced > 0


def test_harmful_edges_are_taken_away() -> None:
    network, given = Hint(), hints()
    tables(network)[0].set_edges([Edge(2, 1, 1)])
    harmful = loss(network, given)
    miner = Miner(network)
    torch.manual_seed(0)
    value, _ = miner.step(1, *given)  # with one layer, odd steps take away
    assert edges(network) == [[]]
    assert float(value) < harmful - MARGIN
    assert (miner.tried, miner.kept) == (1, 1)


def test_helpful_edges_stay() -> None:
    network, given = Hint(), hints()
    tables(network)[0].set_edges([Edge(0, 1, 1)])
    miner = Miner(network)
    before = loss(network, given)
    assert mine(miner, range(1, 2), given)[0] == pytest.approx(before)
    assert edges(network) == [[Edge(0, 1, 1)]]
    assert miner.kept == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_edge_that_lowers_the_loss_is_found(seed: int) -> None:
    network, given = Hint(), hints(seed)
    torch.manual_seed(seed)
    before, miner = loss(network, given), Miner(network)
    losses = [before, *mine(miner, range(100 * seed, 100 * seed + 40), given)]
    assert all(late <= early + MARGIN for early, late in pairwise(losses))
    assert losses[-1] < before / 10
    assert {Edge(0, 1, 1), Edge(2, 1, -1)} & set(edges(network)[0])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_layers_with_no_room_for_another_edge(channels: int) -> None:
    """Six pairs at most: they are all taken soon."""
    torch.manual_seed(0)
    quantizers: dict[str, Any] = {"weight_quantizer": ClosedSign(), "activation_quantizer": ClosedSign()}
    network = nn.Sequential(
        QuantConv2d(6, channels, 1, correction=Interaction(2, 1), **quantizers),
        QuantConv2d(channels, 4, 1, correction=Interaction(2, 1), **quantizers),
        nn.Flatten(),
    )
    given = torch.randn(9, 6, 1, 1), torch.randint(4, (9,))
    mine(Miner(network), range(60), given)
    assert len(edges(network)[0]) <= channels * (channels - 1)


@pytest.mark.parametrize("channels", [2, 3])
def test_a_layer_whose_pairs_are_all_taken(channels: int) -> None:
    torch.manual_seed(0)
    quantizers: dict[str, Any] = {"weight_quantizer": ClosedSign(), "activation_quantizer": ClosedSign()}
    network = nn.Sequential(QuantConv2d(6, channels, 1, correction=Interaction(2, 1), **quantizers), nn.Flatten())
    every = [Edge(t, s, 1) for t in range(channels) for s in range(channels) if t != s]
    tables(network)[0].set_edges(every)
    given = torch.randn(9, 6, 1, 1), torch.randint(channels, (9,))
    miner = Miner(network)
    mine(miner, range(6), given)
    assert miner.tried == 6
    assert set(edges(network)[0]) <= {Edge(e.teacher, e.student, sign) for e in every for sign in (-1, 1)}


def saved(state: Any) -> Any:
    """Through a checkpoint's file and back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("at", [1, 7, 16])
def test_taken_up_midway_it_goes_on_bit_for_bit(at: int) -> None:
    whole = catalogue()
    torch.manual_seed(3)
    miner = Miner(whole)
    losses = mine(miner, range(24), batch())
    torch.manual_seed(3)
    part = catalogue()
    torch.manual_seed(3)
    begun = Miner(part)
    first = mine(begun, range(at), batch())
    fresh = catalogue(seed=9)
    fresh.load_state_dict(saved(part.state_dict()))
    torch.manual_seed(77)
    resumed = Miner(fresh)
    resumed.load_state(saved(begun.state()))
    assert first + mine(resumed, range(at, 24), batch()) == losses
    assert edges(fresh) == edges(whole)
    assert (resumed.tried, resumed.kept) == (miner.tried, miner.kept)
    for a, b in zip(miner.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(miner.scores, resumed.scores, strict=True))


def test_a_mined_network_packs_to_the_same_answers() -> None:
    network = catalogue()
    mine(Miner(network), range(60), batch())
    assert sum(map(len, edges(network))) > 2
    plain = catalogue()
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if ".table" not in name}, False)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected, without = ((one.eval()((x - 0.5) / 0.25)).numpy() for one in (network, plain))
    card = {"classes": list("abcd")}
    program = pack_network(network, size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, card=card)
    slow = reference.run(program, x.numpy())
    assert abs(expected - without).max() > 0.01, "the edges must matter"
    assert abs(slow - expected).max() <= 1e-6 * abs(expected).max()
    np.testing.assert_array_equal(Network(program).run(pixels), slow)


def test_the_policy_sees_layers_of_any_widths_in_their_order() -> None:
    torch.manual_seed(0)
    policy = Policy()
    maps = [torch.randn(2, n, n) for n in (3, 7, 4)]
    scores = policy(maps)
    assert [tuple(score.shape) for score in scores] == [(2, 3, 3), (2, 7, 7), (2, 4, 4)]
    other = policy([maps[0], maps[1] + 1, maps[2]])
    assert torch.equal(scores[0], other[0])
    assert not torch.equal(scores[1], other[1])
    assert not torch.equal(scores[2], other[2])  # it remembers the layers before
