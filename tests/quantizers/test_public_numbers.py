"""Our quantizers against numbers that public implementations computed; see ``public/README.md``.

sign(0) is +1 here and 0 in three of the public codes. Zero is the mean of the two signs, and what is compared here is
linear in the signs of the inputs and in those of the weights. So zeros are moved a little to either side, and our
results averaged: that is what a sign(0) of 0 gives.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gradients import backward
from torch import Tensor

from binarch.nn import QuantConv2d, QuantLinear
from binarch.quantizers import (
    BinaryConnect,
    CentredBoxed,
    CirculantSign,
    ClosedSign,
    HalfWave,
    HwgqWeight,
    Identity,
    InputScale,
    LqActivation,
    LqWeight,
    PolynomialSign,
    Quantizer,
    Sign,
    TrainedTernary,
    XnorWeight,
    circulate,
)

Case = dict[str, Any]
PUBLIC = Path(__file__).parent / "public"
TINY = 1e-30


def cases(file: str, *, start: str = "", end: str = "") -> list[Any]:
    """The cases of a file whose names start and end so."""
    found = json.loads((PUBLIC / f"{file}.json").read_text(encoding="utf-8"))["cases"]
    named = [case for case in found if case["name"].startswith(start) and case["name"].endswith(end)]
    assert named, (file, start, end)
    return [pytest.param(case, id=f"{file}-{case['name']}") for case in named]


def double(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def single(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def close(ours: Tensor, theirs: Any) -> None:
    torch.testing.assert_close(ours.detach().double(), double(theirs), rtol=1e-5, atol=1e-5)


def moved(x: Tensor, by: float) -> Tensor:
    return torch.where(x == 0, by, x)


def averaged(x: Tensor, upstream: Tensor, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Output and gradient as if sign(0) were 0."""
    both = [backward(function, moved(x, by), upstream) for by in (-TINY, TINY)]
    return (both[0][0] + both[1][0]) / 2, (both[0][1] + both[1][1]) / 2


def layer_results(case: Case, make: Callable[[Tensor], QuantConv2d | QuantLinear]) -> dict[str, Tensor]:
    """Output and gradients of a layer made of its latent weights, as if sign(0) were 0."""
    sums: dict[str, Tensor] = {}
    for left, right in itertools.product((-TINY, TINY), repeat=2):
        x, weight = moved(double(case["x"]), left).requires_grad_(), moved(double(case["weight"]), right)
        layer = make(weight).double()
        y = layer(x)
        y.backward(double(case["grad_y"]))
        found = {"y": y, "grad_x": x.grad, "grad_weight": layer.weight.grad}
        sums = {name: sums.get(name, 0) + value.detach() / 4 for name, value in found.items()}
    return sums


# --- BNN ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("bnn", start="binarize"))
def test_bnn_weights(case: Case) -> None:
    y, gradient = averaged(double(case["x"]), double(case["grad_y"]), BinaryConnect())
    close(y, case["y"])
    close(gradient, case["grad_x"])


@pytest.mark.parametrize("case", cases("bnn", start="hardtanh"))
def test_bnn_activations(case: Case) -> None:
    x = double(case["x"])
    y, gradient = averaged(x, double(case["grad_y"]), ClosedSign())
    inner = x.abs() != 1  # their window is open, ours closed
    close(y, case["y"])
    close(gradient[inner], double(case["grad_x"])[inner].tolist())
    close(averaged(x, double(case["grad_y"]), Sign())[1], case["grad_x"])  # the open window


@pytest.mark.parametrize("case", cases("bnn", start="linear") + cases("bnn", start="conv"))
def test_bnn_layers(case: Case) -> None:
    """Their binarizer passes all gradients, in weights and in activations: BinaryConnect in both places."""
    inputs: Quantizer = Identity() if case["name"].endswith("three_input_channels") else BinaryConnect()
    bias = double(case["bias"])

    def make(weight: Tensor) -> QuantConv2d | QuantLinear:
        out, channels, *kernel = weight.shape
        options: dict[str, Any] = {
            "weight_quantizer": BinaryConnect(), "activation_quantizer": inputs, "bias": True, "latent": weight
        }  # fmt: skip
        stride = 2 if "stride2" in case["name"] else 1
        layer = (
            QuantConv2d(channels, out, (kernel[0], kernel[1]), padding=1, stride=stride, **options)
            if kernel
            else QuantLinear(channels, out, **options)
        )
        layer.bias.data = bias.clone()
        return layer

    for name, ours in layer_results(case, make).items():
        close(ours, case[name])


# --- XNOR-Net -------------------------------------------------------------------------------------------------------


def test_xnor_activations() -> None:
    (case,) = (case.values[0] for case in cases("xnor_net", start="bin_active"))
    x = double(case["x"])
    y, gradient = averaged(x, double(case["grad_y"]), Sign())
    close(y, case["y"])
    close(gradient, case["grad_x"])
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    close(InputScale((1, 1), (1, 1), (0, 0))(one, x), case["channel_mean_abs"])


# A single input channel is not centred here; nothing of theirs is left of it.
@pytest.mark.parametrize("case", cases("xnor_net", start="conv_4") + cases("xnor_net", start="conv_2"))
def test_xnor_weights(case: Case) -> None:
    weight = double(case["weight"])
    CentredBoxed().settle(weight)
    close(weight, case["latent_after_centre_and_clamp"])
    y, gradient = averaged(weight, double(case["grad_binarized"]), XnorWeight("exact"))
    there = weight != 0  # quadratic in the sign of one weight, so that the average of two is not theirs at 0
    close(y, case["binarized"])
    close(gradient[there], double(case["grad_weight"])[there].tolist())
    assert there.sum() > 0.5 * weight.numel()


# --- HWGQ -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("hwgq", start="activation_2"))
def test_hwgq_two_bits(case: Case) -> None:
    x = single(case["x"]).requires_grad_()
    y = HalfWave(2)(x)
    y.backward(single(case["grad_y"]))
    close(y, case["y"])
    close(x.grad, case["grad_x"])


@pytest.mark.parametrize("case", cases("hwgq", start="activation_1"))
def test_hwgq_one_bit(case: Case) -> None:
    """Their step is 0.798, ours 0.79788: the codes agree, and the gradient but for what lies between."""
    x = single(case["x"]).requires_grad_()
    y = HalfWave(1)(x)
    y.backward(single(case["grad_y"]))
    close(HalfWave(1).quantize(x)[0] * 0.798, case["y"])
    outside = (x < HalfWave(1).step) | (x > 0.798)
    close(x.grad[outside], single(case["grad_x"])[outside].tolist())


@pytest.mark.parametrize("case", cases("hwgq", start="activation_sign"))
def test_hwgq_baseline_is_the_sign_of_bnn(case: Case) -> None:
    x = single(case["x"]).requires_grad_()
    y = ClosedSign()(x)
    y.backward(single(case["grad_y"]))
    close(y, case["y"])
    close(x.grad, case["grad_x"])


@pytest.mark.parametrize("case", cases("hwgq", start="binary_conv"))
def test_hwgq_layers(case: Case) -> None:
    weight, x = single(case["weight"]), single(case["x"]).requires_grad_()
    out, channels, *kernel = weight.shape
    layer = QuantConv2d(
        channels, out, (kernel[0], kernel[1]), padding=case["padding"], weight_quantizer=HwgqWeight(),
        activation_quantizer=Identity(), latent=weight,
    )  # fmt: skip
    codes, alpha = layer.weight_quantizer.quantize(weight)
    y = layer(x)
    y.backward(single(case["grad_y"]))
    close(alpha.flatten(), case["alpha"])
    close(codes * alpha, case["binarized"])
    for name, ours in {"y": y, "grad_x": x.grad, "grad_weight": layer.weight.grad}.items():
        close(ours, case[name])


# --- LQ-Nets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("lq_nets"))
def test_lq_nets(case: Case) -> None:
    """One step. They keep a debiased average, ours is plain: the fit is compared before it is averaged in."""
    x, old = single(case["x"]).requires_grad_(), single(case["basis_before"])
    of_weights = case["name"].startswith("weight")
    quantizer = LqWeight(x, case["bits"]) if of_weights else LqActivation(case["bits"])
    if case["name"].endswith("step_1"):
        close(quantizer.basis, case["basis_before"])
    quantizer.basis.copy_(old)
    y = quantizer(x)
    y.backward(single(case["grad_y"]))
    close(y, case["y"])
    close(x.grad, case["grad_x"])
    close((quantizer.basis.double() - 0.9 * old.double()) / 0.1, case["basis_solved"])


# --- TTQ ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("ttq"))
def test_ttq(case: Case) -> None:
    weight, upstream = single(case["weight"]).requires_grad_(), single(case["grad_quantized"])
    quantizer = TrainedTernary(case["t"])
    quantizer.positive.data.fill_(case["wp"])
    quantizer.negative.data.fill_(case["wn"])
    y = quantizer(weight)
    y.backward(upstream)
    off = weight.abs() != case["t"] * weight.abs().max()  # exactly there they leave +-1, we 0
    assert y[~off].eq(0).all()
    close(y[off], single(case["quantized"])[off].tolist())
    close(weight.grad, case["grad_weight"])
    close(quantizer.positive.grad, case["grad_wp"])
    close(quantizer.negative.grad, case["grad_wn"])


# --- CBCN -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("cbcn", start="binarize"))
def test_cbcn_activations(case: Case) -> None:
    y, gradient = averaged(double(case["x"]), double(case["grad_y"]), PolynomialSign())
    close(y, case["y"])
    close(gradient, case["grad_x"])


@pytest.mark.parametrize("case", cases("cbcn", end="expansion"))
def test_cbcn_expansion(case: Case) -> None:
    bank, gradient = backward(circulate, double(case["weight"]), double(case["grad_expanded"]))
    close(bank, case["expanded"])
    close(gradient, case["grad_weight"])


@pytest.mark.parametrize("case", cases("cbcn", end="layer"))
def test_cbcn_layers(case: Case) -> None:
    def make(weight: Tensor) -> QuantConv2d:
        out, inputs, _, *kernel = weight.shape
        return QuantConv2d(
            4 * inputs, 4 * out, (kernel[0], kernel[1]), stride=case["stride"], padding=case["padding"],
            weight_quantizer=CirculantSign(), activation_quantizer=PolynomialSign(), latent=weight.flatten(1, 2),
        )  # fmt: skip

    found, weight = layer_results(case, make), double(case["weight"])
    close(CirculantSign().quantize(weight.flatten(1, 2))[1], case["scale"])
    close(found["y"], case["y"])
    close(found["grad_x"], case["grad_x"])
    there = weight != 0  # through the scale quadratic in the sign of one weight: see test_xnor_weights
    close(found["grad_weight"].view_as(weight)[there], double(case["grad_weight"])[there].tolist())
