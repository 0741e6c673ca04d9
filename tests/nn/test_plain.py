"""The quick layers against their straightforward form: outputs and every gradient, in whole networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from binarch.models import NetworkConfig
from binarch.nn import PReLU, QuantConv2d, plain
from binarch.spaces import find_genotype


def network(binarize: str, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    shape = NetworkConfig(cells=3, channels=8, groups=4, output_scale=True)
    made = shape.build(find_genotype("pdarts"), 5, binarize, 8)  # type: ignore[arg-type]
    for name, parameter in made.named_parameters():
        if name.endswith("scale"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return made.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
@pytest.mark.parametrize("dtype, error", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_outputs_and_gradients_are_those_of_the_straightforward_network(
    binarize: str, dtype: torch.dtype, error: float
) -> None:
    quick = network(binarize, dtype)
    slow = plain(quick)
    assert not any(isinstance(module, QuantConv2d | PReLU) for module in slow.modules())
    assert any(isinstance(module, QuantConv2d) for module in quick.modules())  # a copy was changed
    torch.manual_seed(1)
    images, labels = torch.randn(6, 3, 8, 8, dtype=dtype), torch.randint(0, 5, (6,))
    found = []
    for made in (quick, slow):
        logits = made(images)
        functional.cross_entropy(logits, labels).backward()
        found.append((logits, {name: p.grad for name, p in made.named_parameters()}))
    (logits, gradients), (expected, truths) = found
    assert gradients.keys() == truths.keys()
    assert (logits - expected).abs().max() <= error * expected.abs().max()
    largest = max(float(truth.abs().max()) for truth in truths.values() if truth is not None)
    for name, truth in truths.items():
        assert (gradients[name] is None) == (truth is None), name
        if truth is not None:
            assert (gradients[name] - truth).abs().max() <= error * largest, name
