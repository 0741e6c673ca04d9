"""The registry of methods: their settings, and where their latent weights start."""

import pytest
import torch
from torch import nn

from binarch.errors import UserError
from binarch.nn import SCHEMES, find_scheme
from binarch.nn.norms import shift_based, without_affine
from binarch.nn.quant_layer import Shape2d
from binarch.nn.schemes import boxed_start, ci_net, xnor_net
from binarch.quantizers import Boxed, CentredBoxed, Free, GlorotBoxed, Identity, InputScale, Interaction

SHAPE = Shape2d(160, (3, 3), (1, 1), (1, 1), (1, 1))  # 1440 inputs

#: Bits of weights and activations, layers, what becomes of ReLU and norms, the latent rule: section by section.
METHODS = {
    "bats": ((1, 1), "inner", "none", None, Free),
    "bc": ((1, 32), "all", "keep", None, GlorotBoxed),
    "bc-stochastic": ((1, 32), "all", "keep", None, GlorotBoxed),
    "bnn": ((1, 1), "all", "hardtanh", None, GlorotBoxed),
    "bnn-shift": ((1, 1), "all", "hardtanh", shift_based, GlorotBoxed),
    "xnor-net": ((1, 1), "inner", "none", None, CentredBoxed),
    "ttq": ((2, 32), "inner", "keep", None, Free),
    "hwgq": ((1, 2), "inner", "keep", without_affine, Free),
    "lq-net": ((1, 2), "inner", "keep", None, Free),
    "cbcn": ((1, 1), "inner", "none", None, Free),
    "ccnn": ((1, 1), "inner", "none", None, Boxed),
    "ci-net": ((1, 1), "inner", "hardtanh", None, Free),
    "standardised": ((1, 1), "inner", "none", None, Free),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_settings(name: str) -> None:
    s = find_scheme(name)
    assert s.name == name
    assert (s.bits, s.where, s.nonlinearity, s.norm, type(s.latent_rule)) == METHODS[name]
    assert (s.kernels, s.multiple) == (((3,), 4) if name == "cbcn" else ((), 1))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_gradient_of_its_signs(name: str) -> None:
    """Forward the same signs; backward 1 within the window, or 2 - 2 |x|; schemes without plain signs refuse."""
    scheme = find_scheme(name)
    assert scheme.with_sign_gradient("scheme") == scheme
    if name not in {"bats", "bnn", "xnor-net", "cbcn", "ci-net", "standardised"}:
        with pytest.raises(UserError, match=f"sign_gradient: window is not possible with {name}, .*not plain signs"):
            scheme.with_sign_gradient("window")
        return
    x = torch.tensor([-1.5, -0.75, 0.0, 0.25, 1.5], requires_grad=True)
    expected = {"window": [0.0, 1.0, 1.0, 1.0, 0.0], "polynomial": [0.0, 0.5, 2.0, 1.5, 0.0]}
    for gradient, slopes in expected.items():
        signs = scheme.with_sign_gradient(gradient).activation()(x)  # type: ignore[arg-type]
        assert signs.tolist() == [-1, -1, 1, 1, 1]
        assert torch.autograd.grad(signs.sum(), x)[0].tolist() == slopes


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(UserError, match=r"scheme: 'xnor'.*bats, bc, .*xnor-net"):
        find_scheme("xnor")


def test_a_start_inside_the_box() -> None:
    torch.manual_seed(0)
    weight = nn.Conv2d(64, 64, 3).weight.detach()  # uniform
    start = boxed_start(weight)
    assert torch.equal(start >= 0, weight >= 0)
    assert start.abs().max() <= 1
    assert start.square().mean().item() == pytest.approx(1 / 3, rel=0.01)
    histogram = start.flatten().histc(10, -1, 1) / start.numel()
    assert (histogram - 0.1).abs().max() < 0.005
    assert boxed_start(torch.randn(1000) * 50).abs().max() == 1
    assert not boxed_start(torch.zeros(5)).any()


def test_interactions_grow_with_the_root_of_the_inputs() -> None:
    found = [ci_net().correction(shape) for shape in (SHAPE, SHAPE._replace(inputs=640), SHAPE._replace(inputs=1))]
    assert all(isinstance(correction, Interaction) for correction in found)
    assert [(c.threshold, c.step) for c in found] == [(200, 100), (400, 200), (16, 8)]
    one = ci_net().correction(Shape2d(1, (1, 1), (1, 1), (0, 0), (1, 1)))
    assert (one.threshold, one.step) == (5, 3)


def test_the_input_scale_is_asked_for() -> None:
    assert xnor_net().correction(SHAPE) is None
    scale = xnor_net(input_scale=True).correction(SHAPE._replace(dilation=(2, 2), padding=(2, 2), stride=(2, 2)))
    assert isinstance(scale, InputScale)
    assert scale(torch.ones(1, 1, 4, 4), torch.ones(1, 8, 8, 8)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_first_of_two_stages_has_real_weights(name: str) -> None:
    scheme, weight = find_scheme(name).with_real_weights(), torch.randn(6, 5, 3, 3)
    assert isinstance(scheme.weight(weight), Identity)
    assert type(scheme.activation()) is type(find_scheme(name).activation())
    assert scheme.latent(weight) is weight
    assert scheme.correction(SHAPE) is None
    assert isinstance(scheme.latent_rule, Free)
