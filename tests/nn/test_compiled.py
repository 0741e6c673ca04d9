"""Networks of ours as torch.compile sees them: one graph, the same numbers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from binarch.models import NetworkConfig
from binarch.spaces import find_genotype

NETWORKS = {
    "cells": lambda: NetworkConfig(cells=3, channels=8, groups=4, output_scale=True).build(
        find_genotype("pdarts"), 5, "both", 8
    ),
    "reactnet-small": lambda: NetworkConfig(scheme="standardised", width=64).build("reactnet-small", 5, "both", 8),
    "vgg-small": lambda: NetworkConfig(width=64).build("vgg-small", 5, "both", 8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_one_graph_and_the_same_numbers(name: str) -> None:
    torch.manual_seed(0)
    eager = NETWORKS[name]().train().to(dtype=torch.float64, memory_format=torch.channels_last)
    # The graph runs as it was traced: no compiler is needed for it, and none can make it faster.
    compiled = torch.compile(copy.deepcopy(eager), backend="aot_eager", fullgraph=True, dynamic=False)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 5, (4,))
    found = []
    for network in (eager, compiled):
        assert isinstance(network, nn.Module)
        logits = network(x)
        functional.cross_entropy(logits, labels).backward()
        found.append((logits.detach(), [p.grad for p in network.parameters()]))
    (logits, gradients), (expected, truths) = found
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    largest = max(float(g.abs().max()) for g in gradients if g is not None)
    for gradient, truth in zip(gradients, truths, strict=True):
        assert (gradient is None) == (truth is None)
        if gradient is not None and truth is not None:
            assert (gradient - truth).abs().max() <= 1e-9 * largest
