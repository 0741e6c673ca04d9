"""The average of weights against its formula."""

import torch
from torch import nn

from binarch.training.average import weight_average


def test_it_is_the_mean_at_first_and_exponential_then() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, horizon = weight_average(network, 4), 4
    expected = None
    for t in range(1, 10):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(5, 3))  # moves the running statistics
        average.update_parameters(network)
        newest = torch.cat([value.detach().double().flatten() for value in (network[0].weight, network[1].running_var)])
        share = max(1 / t, 1 / horizon)
        expected = newest if expected is None else expected + share * (newest - expected)
        found = average.module[0].weight, average.module[1].running_var
        torch.testing.assert_close(torch.cat([value.detach().double().flatten() for value in found]), expected)
        assert int(average.module[1].num_batches_tracked) == t
    assert not torch.equal(network[0].weight, average.module[0].weight)


def test_a_horizon_of_one_step_is_the_newest_network() -> None:
    network = nn.Linear(2, 2)
    average = weight_average(network, 1)
    for _ in range(3):
        with torch.no_grad():
            network.weight.add_(torch.rand(2, 2))
        average.update_parameters(network)
        torch.testing.assert_close(average.module.weight, network.weight)
