"""What every quantizer of every scheme promises."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from binarch.nn import SCHEMES
from binarch.nn.schemes import hwgq, lq_net, xnor_net
from binarch.quantizers import Identity, LqActivation, Quantizer, StepQuantizer

#: The registry, and the settings that it does not show.
METHODS = (
    {name: scheme for name, scheme in SCHEMES.items() if name not in ("hwgq", "lq-net")}
    | {f"hwgq-{bits}": hwgq(bits) for bits in (1, 2, 3, 4)}
    | {f"lq-net-{bits}": lq_net(bits, bits) for bits in (1, 2, 3, 4)}
    | {f"xnor-net-{gradient}": xnor_net(gradient) for gradient in ("exact", "published")}
)
SHAPE = (8, 4, 3, 3)


def bank(seed: int = 0) -> Tensor:
    """Filters with zeros among their numbers."""
    filters = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    filters.flatten()[::11] = 0
    return filters


def activations(name: str) -> Quantizer:
    return METHODS[name].activation()


def unordered(bits: int) -> LqActivation:
    """A basis as training may leave it: not ascending, one number negative."""
    quantizer = LqActivation(bits)
    quantizer.basis.copy_(torch.tensor([0.7, 0.33, -0.21, 1.9][:bits]))
    return quantizer


def steps_of() -> dict[str, StepQuantizer]:
    found = {name: activations(name) for name in METHODS}
    found |= {f"lq-net-unordered-{bits}": unordered(bits) for bits in (1, 2, 3, 4)}
    return {name: quantizer for name, quantizer in found.items() if isinstance(quantizer, StepQuantizer)}


def seeded(quantizer: Quantizer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, codes and scale of the same draw and the same state."""
    outcomes = []
    for one in (copy.deepcopy(quantizer), quantizer):
        torch.manual_seed(1)
        outcomes.append(one(x) if one is not quantizer else one.quantize(x))
    return outcomes[0], *outcomes[1]


def assert_promises(quantizer: Quantizer, x: Tensor, per_filter: bool) -> None:
    y, codes, scale = seeded(quantizer, x)
    assert torch.equal(y, codes * scale)
    assert y.dtype == codes.dtype == scale.dtype == x.dtype
    if quantizer.bits < 32:
        for part in y if per_filter else [y]:
            assert len(part.unique()) <= 2**quantizer.bits
    if quantizer.bits == 1:
        assert len(codes.unique()) <= 2
        assert torch.equal(codes, codes.round())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", METHODS)
def test_weights(name: str, training: bool, dtype: torch.dtype) -> None:
    latent = METHODS[name].latent(bank())
    quantizer = METHODS[name].weight(latent).train(training)
    assert_promises(quantizer, latent.to(dtype), per_filter=name != "ttq")
    assert quantizer.quantize(latent)[0].shape == SHAPE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", METHODS)
def test_activations(name: str, training: bool, dtype: torch.dtype) -> None:
    quantizer, x = activations(name).train(training), bank(1).to(dtype)
    assert_promises(quantizer, x, per_filter=False)
    assert quantizer.quantize(x)[0].shape == x.shape
    channels_last = x.to(memory_format=torch.channels_last)
    evaluated = quantizer.eval()
    assert torch.equal(evaluated(channels_last), evaluated(x))


@pytest.mark.parametrize("name", METHODS)
def test_the_bits_are_those_that_the_scheme_says(name: str) -> None:
    scheme = METHODS[name]
    assert (scheme.weight(bank()).bits, scheme.activation().bits) == scheme.bits


@pytest.mark.parametrize("name", METHODS)
def test_training_quantizes_like_evaluation(name: str) -> None:
    """At the first step: what is stored for evaluation is what training has used. Chance is left out."""
    if name in ("bc-stochastic", "bnn-shift"):
        return
    latent = METHODS[name].latent(bank())
    for quantizer, x in ((METHODS[name].weight(latent), latent), (activations(name), bank(1))):
        assert torch.equal(copy.deepcopy(quantizer).train()(x), quantizer.eval()(x))


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_finite_and_reach_what_is_learned(name: str) -> None:
    latent = METHODS[name].latent(bank())
    for quantizer, x in ((METHODS[name].weight(latent), latent), (activations(name), bank(1))):
        leaf = x.clone().requires_grad_()
        (quantizer(leaf) * torch.linspace(-1, 2, quantizer(x).numel()).view(SHAPE)).sum().backward()
        for learned in (leaf, *quantizer.parameters()):
            assert learned.grad is not None
            assert learned.grad.isfinite().all()
            assert learned.grad.any()


STAIRCASES = steps_of()


@st.composite
def numbers(draw: st.DrawFn, thresholds: Tensor) -> Tensor:
    """Floats, thresholds, and the float32 neighbours of thresholds."""
    up, down = (torch.nextafter(thresholds, torch.full_like(thresholds, end)) for end in (torch.inf, -torch.inf))
    special = st.sampled_from(torch.cat([thresholds, up, down]).tolist())
    return torch.tensor(draw(st.lists(special | st.floats(-4, 4, width=32), min_size=1, max_size=40)))


@pytest.mark.parametrize("name", STAIRCASES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_steps_are_the_forward_pass(name: str, data: st.DataObject) -> None:
    quantizer = STAIRCASES[name].eval()
    thresholds, codes, scale = quantizer.steps()
    assert len(thresholds) + 1 == len(codes) == 2**quantizer.bits
    assert torch.equal(thresholds, thresholds.sort().values)
    x = data.draw(numbers(thresholds))
    index = (x.unsqueeze(-1) >= thresholds).sum(-1)
    assert torch.equal(codes[index] * scale, quantizer(x))


@pytest.mark.parametrize("name", STAIRCASES)
def test_steps_hold_in_short_floats(name: str) -> None:
    """All bfloat16 numbers between -4 and 4 take the stair that they take as float32."""
    quantizer = STAIRCASES[name].eval()
    thresholds, codes, _ = quantizer.steps()
    short = torch.arange(0x4081, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    x = torch.cat([short, -short])
    index = (x.float().unsqueeze(-1) >= thresholds).sum(-1)
    assert torch.equal(quantizer.quantize(x)[0], codes[index].bfloat16())


def test_the_registry_is_all_there() -> None:
    assert set(SCHEMES) == {
        "bats", "bc", "bc-stochastic", "bnn", "bnn-shift", "xnor-net", "ttq", "hwgq", "lq-net", "cbcn", "ccnn",
        "ci-net", "standardised",
    }  # fmt: skip
    assert {name for name in METHODS if isinstance(activations(name), Identity)} == {"bc", "bc-stochastic", "ttq"}
