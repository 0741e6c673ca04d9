"""Parameter groups and settling: what a training loop of one's own needs."""

import pytest
import torch
from torch import nn

from binarch.nn import QuantLayer, binarize_, parameter_groups, settle


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3),
    )  # fmt: skip


def test_every_parameter_is_in_one_group_with_its_rate_and_decay() -> None:
    net = network()
    binarize_(net, "bnn")
    groups = parameter_groups(net, 1e-3, weight_decay=0.1)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in net.parameters())
    for group in groups:
        assert group["lr"] == pytest.approx(1e-3 * group["step_scale"])
        for parameter in group["params"]:
            # what decays, decays by rate x decay, however long the step is
            assert group["lr"] * group["weight_decay"] == pytest.approx(1e-4 if parameter.dim() > 1 else 0)
    lengthened = {id(p) for g in groups if g["step_scale"] != 1 for p in g["params"]}
    assert lengthened == {id(m.weight) for m in net.modules() if isinstance(m, QuantLayer)}


def test_adam_steps_as_far_as_the_rule_says_and_settling_clips() -> None:
    net = network()
    binarize_(net, "bnn")
    layer = net[3]
    optimizer = torch.optim.Adam(parameter_groups(net, 1e-2))
    before = layer.weight.detach().clone()
    nn.functional.cross_entropy(net(torch.randn(8, 3, 4, 4)), torch.arange(8) % 3).backward()
    optimizer.step()
    moved = (layer.weight - before).abs().max().item()
    assert moved == pytest.approx(1e-2 * layer.latent_rule.step_scale(layer.weight), rel=1e-3)
    layer.weight.data.mul_(10)
    settle(net)
    assert layer.weight.abs().max() == 1


def test_hidden_matrices_stand_apart_where_asked_for() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 8, 3), nn.Linear(8, 8),
        nn.Linear(8, 3),
    )  # fmt: skip
    net.add_module("auxiliary", nn.Sequential(nn.Linear(8, 3)))
    net.add_module("last", nn.Linear(3, 3))
    binarize_(net, "bats", where=lambda name, layer: name == "3")
    groups = parameter_groups(net, 1e-3, weight_decay=0.1, matrices=True)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in net.parameters())
    apart = {id(p): g["groups"] for g in groups for p in g["params"] if g["groups"]}
    assert apart == {id(net[2].weight): 4, id(net[3].weight): 1, id(net[4].weight): 1, id(net[5].weight): 1}
    assert all(g["groups"] == 0 for g in parameter_groups(net, 1e-3))
