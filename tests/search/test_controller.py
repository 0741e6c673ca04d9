"""The controller against products of softmax values, numeric gradients and PPO's definition; the toy it must learn."""

import itertools

import pytest
import torch

from binarch.search.controller import Controller, Decision, Learner, ppo_loss
from binarch.search.derive import random_genotype
from binarch.search.reinforce import decisions, genotype_of
from binarch.spaces import Edge, Nasnet, Space

TOY = [Decision(2), Decision(2, unlike=0), Decision(3), Decision(2)]


def controller(seed: int = 0) -> Controller:
    torch.manual_seed(seed)
    return Controller(TOY, hidden=12)


def everything() -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(decision.options) for decision in TOY)))


def test_probabilities_of_all_architectures_add_up_to_one() -> None:
    found = {choices: controller()(torch.tensor([choices]))[0].exp().item() for choices in everything()}
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert all((p == 0) == (choices[0] == choices[1]) for choices, p in found.items())


def test_draws_come_as_often_as_their_probability_says() -> None:
    net, generator = controller(), torch.Generator().manual_seed(0)
    drawn = [net.sample(generator) for _ in range(4000)]
    for choices in everything():
        assert drawn.count(choices) / 4000 == pytest.approx(net(torch.tensor([choices]))[0].exp().item(), abs=0.03)


def test_gradients_of_the_log_probability_are_numeric_ones() -> None:
    net = controller().double()
    net.heads[2].bias.data.normal_()
    choices = torch.tensor([[1, 0, 2, 1]])
    torch.set_default_dtype(torch.float64)
    try:
        log_probability, entropy = net(choices)
        assert 0 < entropy < sum(torch.tensor(float(d.options)).log() for d in TOY)
        (found,) = torch.autograd.grad(log_probability, net.cell.weight_hh)
        for row, column in ((0, 0), (17, 5), (40, 11)):
            value = net.cell.weight_hh.data[row, column].item()
            sides = []
            for step in (1e-6, -1e-6):
                net.cell.weight_hh.data[row, column] = value + step
                sides.append(net(choices)[0].item())
            net.cell.weight_hh.data[row, column] = value
            assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(float(found[row, column]), abs=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)


def test_at_ratio_one_ppo_is_reinforce() -> None:
    new = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantage = torch.tensor([0.5, -1.0, 2.0])
    ppo_loss(new, new.detach(), advantage).backward()
    torch.testing.assert_close(new.grad, -advantage / 3)


@pytest.mark.parametrize(
    "shift, advantage, moves", [(0.5, 1, False), (-0.5, -1, False), (0.5, -1, True), (-0.5, 1, True), (0.1, 1, True)]
)
def test_beyond_the_clip_nothing_is_gained(shift: float, advantage: float, moves: bool) -> None:
    new = torch.tensor([-1.0], requires_grad=True)
    ppo_loss(new, new.detach() - shift, torch.tensor([float(advantage)])).backward()
    assert (new.grad.item() != 0) is moves


def test_the_rewarded_architecture_is_learned() -> None:
    net, generator = controller(1), torch.Generator().manual_seed(1)
    learner, wanted = Learner(net, 5e-3), (1, 0, 2, 0)
    for _ in range(200):
        drawn = [net.sample(generator) for _ in range(10)]
        learner.learn([(choices, float(choices == wanted)) for choices in drawn])
    assert net(torch.tensor([wanted]))[0].exp() > 0.9


def test_every_row_of_decisions_is_a_valid_genotype_and_all_can_be_drawn() -> None:
    names = Space.rules.operations
    assert [d.options for d in decisions(Space.rules)][:8] == [2, 2, 7, 7, 3, 3, 7, 7]
    torch.manual_seed(0)
    net, generator = Controller(decisions(Space.rules)), torch.Generator().manual_seed(0)
    drawn = [genotype_of(net.sample(generator), Space.rules) for _ in range(30)]
    assert len(set(drawn)) == 30
    for genotype in drawn:
        for cell in (genotype.normal, genotype.reduce):
            assert all(first.source < second.source for first, second in cell.nodes)
    some = random_genotype(Space.rules, generator)
    choices = []
    for cell in (some.normal, some.reduce):
        for first, second in cell.nodes:
            choices += [first.source, second.source, names.index(first.primitive), names.index(second.primitive)]
    assert genotype_of(choices, Space.rules) == some


def test_nasnet_decides_forty_times_and_may_read_a_state_twice() -> None:
    made = decisions(Nasnet.rules)
    assert len(made) == 40  # NASNet has 50: how a node combines its edges is decided too
    assert [d.options for d in made[:28:4]] == [2, 3, 4, 5, 6, 2, 3]
    assert all(d.unlike is None for d in made)
    twice = [0, 0, 4, 4, 2, 1, 0, 12, 0, 1, 4, 4, 4, 3, 4, 4, 0, 0, 4, 4]
    cell = genotype_of(twice * 2, Nasnet.rules).normal
    assert cell.nodes[0] == (Edge("skip_connect", 0), Edge("skip_connect", 0))
    assert cell.nodes[1] == (Edge("conv_7x1_1x7", 1), Edge("max_pool_3x3", 2))
    assert cell.concat == (5, 6)
    torch.manual_seed(0)
    net, generator = Controller(made), torch.Generator().manual_seed(0)
    drawn = {genotype_of(net.sample(generator), Nasnet.rules) for _ in range(20)}
    assert len(drawn) == 20
    assert any(first.source == second.source for g in drawn for first, second in g.normal.nodes)
