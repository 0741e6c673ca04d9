"""The quick layers against their straightforward form: outputs and every gradient, in whole networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from binarch.models import NetworkConfig
from binarch.nn import Binarization, PReLU, QuantConv2d, plain
from binarch.quantizers import CentredSign, Sign
from binarch.spaces import find_genotype
from binarch.spaces.bats import Bats


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


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("binarize", ["activations", "both"])
@pytest.mark.parametrize("dtype, error", [(torch.float16, 1e-3), (torch.bfloat16, 5e-2)])
def test_an_operation_in_half_precision_is_near_the_straightforward_one_in_single(
    dtype: torch.dtype, error: float, binarize: str, device: str
) -> None:
    """Of whole networks this cannot be asked: a sum that is rounded otherwise turns a later sign round.

    So may even PReLU's bend, a sum near 0 in bfloat16: a few gradients are others then, hence 5e-2.
    """
    torch.manual_seed(0)
    quick = Bats(Binarization(binarize), 4).primitive("sep_conv_3x3", 16, 1).to(device)  # type: ignore[arg-type]
    slow = plain(quick)
    x, towards = torch.randn(2, 4, 16, 9, 9, device=device)
    found = []
    for made, autocast in ((quick, True), (slow, False)):
        leaf = x.clone().requires_grad_()
        with torch.autocast(device, dtype, enabled=autocast):
            y = made(leaf)
        (y.float() * towards).sum().backward()
        found.append({"output": y.detach(), "input": leaf.grad} | {n: p.grad for n, p in made.named_parameters()})
    for name, truth in found[1].items():
        assert truth is not None
        apart = (found[0][name] - truth).norm() / truth.norm()
        assert apart < error, (name, float(apart))


@pytest.mark.parametrize(
    "layer", [PReLU(4), QuantConv2d(4, 4, 3, weight_quantizer=CentredSign(), activation_quantizer=Sign())]
)
def test_a_single_layer_has_a_plain_form_too(layer: nn.Module) -> None:
    x, made = torch.randn(2, 4, 5, 5), plain(layer)
    assert type(made) is not type(layer)
    torch.testing.assert_close(made(x), layer(x))
