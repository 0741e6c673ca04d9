"""The quick layers against their straightforward form: outputs and every gradient, in whole networks."""

import statistics

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.deploy import genotype_of
from binarch.models import NetworkConfig
from binarch.nn import Binarization, Binarize, PReLU, QuantConv2d, fused, plain
from binarch.quantizers import CentredSign, Sign
from binarch.spaces import find_genotype
from binarch.spaces.bats import Bats


def network(binarize: Binarize, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    shape = NetworkConfig(cells=3, channels=8, groups=4, output_scale=True)
    made = shape.build(find_genotype("pdarts"), 5, binarize, 8)
    for name, parameter in made.named_parameters():
        if name.endswith("scale"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return made.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
@pytest.mark.parametrize("dtype, error", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_outputs_and_gradients_are_those_of_the_straightforward_network(
    binarize: Binarize, dtype: torch.dtype, error: float
) -> None:
    quick = network(binarize, dtype)
    slow = plain(quick)
    assert not any(isinstance(module, QuantConv2d | PReLU) for module in slow.modules())
    assert any(isinstance(module, QuantConv2d) for module in quick.modules())  # a copy was changed
    torch.manual_seed(1)
    images, labels = torch.randn(6, 3, 8, 8, dtype=dtype), torch.randint(0, 5, (6,))
    assert _apart(_step(quick, images, labels), _step(slow, images, labels)) <= error


SHAPES = {
    "bats-cifar10": NetworkConfig(cells=3, channels=32, groups=1, stem="half", scheme="standardised"),
    "vgg-small": NetworkConfig(width=32, scheme="standardised"),
    "reactnet-fine": NetworkConfig(width=32, scheme="standardised"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_so_are_those_of_the_networks_that_come_with_the_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their shapes, one bit: wide enough for Winograd's algorithm without AVX-512, and with passes that join layers.

    A sum that is rounded otherwise turns a sign in one draw of a hundred: hence the median of three.
    """
    architecture = genotype_of(name) if name == "bats-cifar10" else name
    distances = []
    for seed in range(3):
        torch.manual_seed(seed)
        quick = SHAPES[name].build(architecture, 5, "both", 16)
        for norm in quick.modules():
            if isinstance(norm, nn.BatchNorm2d) and norm.affine:
                nn.init.uniform_(norm.bias, -0.1, 0.1)  # few codes' sum is often the mean: no sign shall hang on that
        slow = plain(quick.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
        found = _step(quick, images, torch.tensor([1, 3]))
        with monkeypatch.context() as patch:
            patch.setattr(fused, "fits", lambda x: False)
            distances.append(_apart(found, _step(slow, images, torch.tensor([1, 3]))))
    assert statistics.median(distances) <= 1e-5


Step = tuple[Tensor, dict[str, Tensor | None]]


def _step(made: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """Logits and gradients."""
    logits = made(images)
    functional.cross_entropy(logits, labels).backward()
    return logits.detach(), {name: p.grad for name, p in made.named_parameters()}


def _apart(quick: Step, slow: Step) -> float:
    """The largest difference: of logits by the largest logit, of gradients by the largest gradient."""
    (logits, gradients), (expected, truths) = quick, slow
    assert gradients.keys() == truths.keys()
    assert {name for name in gradients if gradients[name] is None} == {name for name in truths if truths[name] is None}
    known = {name: truth for name, truth in truths.items() if truth is not None}
    largest = max(truth.abs().max() for truth in known.values())
    far = [(gradients[name] - truth).abs().max() / largest for name, truth in known.items()]  # type: ignore[operator]
    return float(max([(logits - expected).abs().max() / expected.abs().max(), *far]))


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("binarize", ["activations", "both"])
@pytest.mark.parametrize("dtype, error", [(torch.float16, 1e-3), (torch.bfloat16, 5e-2)])
def test_an_operation_in_half_precision_is_near_the_straightforward_one_in_single(
    dtype: torch.dtype, error: float, binarize: Binarize, device: str
) -> None:
    """Of whole networks this cannot be asked: a sum that is rounded otherwise turns a later sign round.

    So may even PReLU's bend, a sum near 0 in bfloat16: a few gradients are others then, hence 5e-2.
    """
    quick, _ = _distances_in_half("sep_conv_3x3", binarize, dtype, device)
    assert max(quick.values()) < error, quick


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("binarize", ["activations", "both"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("primitive", ["sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"])
def test_half_precision_loses_no_more_than_it_does_straightforwardly(
    primitive: str, dtype: torch.dtype, binarize: Binarize, device: str
) -> None:
    """Longer sums lose more than the bounds above, up to 6 %, by rounding alone: as the straightforward form does."""
    quick, slow = _distances_in_half(primitive, binarize, dtype, device)
    assert max(quick.values()) < 2 * max(slow.values()), (quick, slow)


def _distances_in_half(
    primitive: str, binarize: Binarize, dtype: torch.dtype, device: str
) -> tuple[dict[str, float], dict[str, float]]:
    """How far output and gradients in half precision are from the straightforward form's in single: quick, and slow."""
    torch.manual_seed(0)
    quick = Bats(Binarization(binarize), 4).primitive(primitive, 16, 1).to(device)
    slow, truth = plain(quick), plain(quick)
    x, towards = torch.randn(2, 4, 16, 9, 9, device=device)
    found = []
    for made, autocast in ((quick, True), (slow, True), (truth, False)):
        leaf = x.clone().requires_grad_()
        with torch.autocast(device, dtype, enabled=autocast):
            y = made(leaf)
        (y.float() * towards).sum().backward()
        gradients = {name: p.grad for name, p in made.named_parameters()} | {"input": leaf.grad}
        found.append({"output": y.detach()} | {name: grad for name, grad in gradients.items() if grad is not None})
    true = found.pop()
    assert all(known.keys() == true.keys() for known in found)
    far = [{name: float((known[name] - true[name]).norm() / true[name].norm()) for name in true} for known in found]
    return far[0], far[1]


@pytest.mark.parametrize(
    "layer", [PReLU(4), QuantConv2d(4, 4, 3, weight_quantizer=CentredSign(), activation_quantizer=Sign())]
)
def test_a_single_layer_has_a_plain_form_too(layer: nn.Module) -> None:
    x, made = torch.randn(2, 4, 5, 5), plain(layer)
    assert type(made) is not type(layer)
    torch.testing.assert_close(made(x), layer(x))
