"""The catalogue's networks: published parameter counts, shapes, gradients, errors."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from binarch.errors import UserError
from binarch.models import MODELS, VggSmall, build_model, costs
from binarch.models.resnet import PaddedShortcut, blocks
from binarch.models.wide_resnet import WideResNet40
from binarch.nn import DropPath, PReLU

torch.set_num_threads(1)

PARAMETERS = {
    "vgg-small": 4_660_106,
    "vgg-small-fc": 14_033_566,
    "resnet20": 269_722,
    "resnet18": 11_173_962,
    "resnet18-cbcn": 2_875_392 + 45_056 + 1_728 + 2_570 + 4_736 + 2_112,
    "reactnet-small": 4_396_032 + 4_608 + 3_850 + 4_992 + 2_112 + 1_728,
    "reactnet-fine": 3_068_928 + 1_296 + 3_850 + 4_320 + 1_776 + 1_392,
    "wrn40-1": 563_930,
    "wrn40-2": 2_243_546,
    "wrn40-4": 8_949_210,
    "wrn40-cbcn": 8_977_226,
    "nasnet-a": 3_346_538,
    "amoebanet-a": 3_198_962,
}
#: Twenty cells of many small layers: the others are tested at more sizes.
SEARCHED = ("nasnet-a", "amoebanet-a")


def published(name: str, size: int = 32) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, classes=10, image_size=size)


def small(name: str, size: int = 16, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, classes=classes, image_size=size, width=8)


def counted(network: nn.Module) -> Counter[str]:
    """Numbers by what holds them: stem, 3 x 3 and 1 x 1 convolutions, linear layers, biases of both, norms, slopes."""
    found: Counter[str] = Counter()
    for module in network.modules():
        match module:
            case nn.Conv2d():
                kind = "stem" if module.in_channels == 3 else f"{module.kernel_size[0]} x {module.kernel_size[1]}"
                found[kind] += module.weight.numel()
                found["bias"] += 0 if module.bias is None else module.bias.numel()
            case nn.Linear():
                found["linear"] += module.weight.numel()
                found["bias"] += module.bias.numel()
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                found["norm"] += module.weight.numel() + module.bias.numel()
            case PReLU():
                found["slope"] += module.weight.numel()
    return +found


def test_every_network_has_the_published_number_of_parameters() -> None:
    assert {name: sum(p.numel() for p in published(name).parameters()) for name in MODELS} == PARAMETERS


@pytest.mark.parametrize(
    "name, parts",
    [
        ("vgg-small", {"stem": 3_456, "3 x 3": 4_571_136, "linear": 81_920, "bias": 10, "norm": 3_584}),
        ("vgg-small-fc", {"stem": 3_456, "3 x 3": 4_571_136, "linear": 9_447_424, "bias": 3_850, "norm": 7_700}),
        ("resnet20", {"stem": 432, "3 x 3": 267_264, "linear": 640, "bias": 10, "norm": 1_376}),
        (
            "resnet18",
            {"stem": 1_728, "3 x 3": 10_985_472, "1 x 1": 172_032, "linear": 5_120, "bias": 10, "norm": 9_600},
        ),
        (
            "resnet18-cbcn",
            {
                "stem": 1_728,
                "3 x 3": 2_875_392,
                "1 x 1": 45_056,
                "linear": 2_560,
                "bias": 10,
                "norm": 4_736,
                "slope": 2_112,
            },
        ),
    ],
)
def test_the_parameters_are_where_the_papers_have_them(name: str, parts: dict[str, int]) -> None:
    assert counted(published(name)) == parts


def test_the_wide_network_of_cbcn_has_as_many_filters() -> None:
    assert counted(published("wrn40-cbcn"))["3 x 3"] == 8_921_088


@pytest.mark.parametrize("name", ["vgg-small", "vgg-small-fc"])
def test_vgg_multiplies_as_often_as_published(name: str) -> None:
    with torch.device("meta"):
        assert round(costs(published(name), 32).macs / 1e5) == 6075


@pytest.mark.parametrize(
    "name, convolutions, relus",
    [("vgg-small", 6, 6), ("vgg-small-fc", 6, 8), ("resnet20", 19, 19), ("resnet18", 20, 17),
     ("resnet18-cbcn", 20, 0), ("reactnet-small", 10, 0), ("reactnet-fine", 11, 0),
     ("wrn40-1", 39, 37), ("wrn40-2", 40, 37), ("wrn40-cbcn", 39, 37),
     ("nasnet-a", 1 + 18 * 22 + 2 * 22 + 5, 18 * 12 + 2 * 12 + 1)],
)  # fmt: skip
def test_layers_are_modules_of_their_own(name: str, convolutions: int, relus: int) -> None:
    """A scheme replaces modules, so each has to be there, and to be called once."""
    network = small(name)
    calls: Counter[nn.Module] = Counter()
    leaves = [m for m in network.modules() if not list(m.children()) and not isinstance(m, DropPath)]
    hooks = [module.register_forward_hook(lambda module, *_: calls.update([module])) for module in leaves]
    network.eval()(torch.zeros(1, 3, 16, 16))
    assert len(hooks) == len(leaves)
    assert all(calls[module] == 1 for module in leaves)
    assert sum(isinstance(module, nn.Conv2d) for module in leaves) == convolutions
    assert sum(isinstance(module, nn.ReLU) for module in leaves) == relus


@pytest.mark.parametrize("name", MODELS)
def test_one_step_lowers_the_loss(name: str) -> None:
    network = small(name)
    images, labels = torch.randn(10, 3, 16, 16), torch.arange(10) % 5
    rate = 1e-5 if name in SEARCHED else 1e-3  # their classifier's start makes gradients a thousand times longer
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)

    def loss() -> Tensor:
        return functional.cross_entropy(network(images), labels)

    before = loss()
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    optimizer.step()
    assert loss() < before


@pytest.mark.parametrize("size", [8, 9, 11, 16, 27])
@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("vgg")])
def test_residual_networks_take_every_size(name: str, size: int) -> None:
    network = small(name, size).eval()
    assert network(torch.randn(2, 3, size, size)).shape == (2, 5)
    assert network(torch.randn(2, 3, size, size + 3)).shape == (2, 5)


@pytest.mark.parametrize("size", [8, 24])
@pytest.mark.parametrize("name", ["vgg-small", "vgg-small-fc"])
def test_vgg_is_made_for_one_size(name: str, size: int) -> None:
    assert small(name, size).eval()(torch.randn(2, 3, size, size)).shape == (2, 5)


def test_pools_stand_before_norms() -> None:
    names = "".join(type(layer).__name__[0] for layer in VggSmall(width=2))
    assert names == "CBR" + "CMBR" + "CBR" + "CMBR" + "CBR" + "CMBR" + "FL"
    assert "".join(type(layer).__name__[0] for layer in VggSmall(width=2, hidden=4)) == names + "BR" + "LBR" + "LB"


@pytest.mark.parametrize(
    "name, shape", [("vgg-small", "normal"), ("vgg-small-fc", "uniform"), ("resnet18-cbcn", "normal")]
)
def test_filters_start_as_the_papers_have_them(name: str, shape: str) -> None:
    """He's normal numbers, or PyTorch's uniform ones of a sixth of their variance."""
    torch.manual_seed(0)
    network = build_model(name, classes=10, image_size=8, width=32)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels > 3 and m.kernel_size[0] == 3]
    scaled = torch.cat([m.weight.flatten() * m.weight[0].numel() ** 0.5 for m in layers]).detach()
    variance, most = (2, 8) if shape == "normal" else (1 / 3, 1.0001)
    assert abs(scaled.var() / variance - 1) < 0.03
    assert (scaled.abs().max() > 4) == (shape == "normal")
    assert scaled.abs().max() < most


def test_width_is_that_of_the_first_stage() -> None:
    for name, model in MODELS.items():
        with torch.device("meta"):
            halved = build_model(name, classes=10, image_size=32, width=model.width // 2)
        wide, narrow = counted(published(name))["3 x 3"], counted(halved)["3 x 3"]
        assert wide == 4 * narrow or (name in SEARCHED and 1.9 < wide / narrow <= 2)  # depthwise filters
    stem, first = [m for m in WideResNet40(width=12, widen=4).modules() if isinstance(m, nn.Conv2d)][:2]
    assert (stem.out_channels, first.out_channels) == (3, 12)


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 5),
    more=st.integers(0, 5),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_the_padded_shortcut_is_a_plain_loop(inputs: int, more: int, height: int, width: int, seed: int) -> None:
    x = torch.randn(2, inputs, height, width, generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(2, inputs + more, (height + 1) // 2, (width + 1) // 2)
    for channel in range(inputs):
        for i in range(expected.shape[2]):
            for j in range(expected.shape[3]):
                seen = x[:, channel, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                expected[:, more // 2 + channel, i, j] = seen.mean((1, 2))
    torch.testing.assert_close(PaddedShortcut(inputs, inputs + more)(x), expected)


def test_every_stage_but_the_first_halves_the_map() -> None:
    assert list(blocks(16, (32, 64), 2)) == [(16, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1)]


@pytest.mark.parametrize(
    "name, changes, said",
    [
        ("vgg", {}, r"model: 'vgg' is unknown; choose one of .*vgg-small"),
        ("resnet20", {"classes": 0}, "classes: 0 is not possible; use 1 or more"),
        ("resnet20", {"width": 0}, "width: 0 is not possible; use 1 or more"),
        ("resnet20", {"image_size": 7}, "image_size: 7 is not possible; use 8 or more"),
        ("vgg-small", {"image_size": 20}, "image_size: 20 is not possible; use a multiple of 8"),
        ("wrn40-4", {"width": 10}, "width: 10 is not possible; .* use a multiple of 4"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, changes: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_model(name, **({"classes": 10, "image_size": 32} | changes))


@pytest.mark.parametrize("changes, said", [({"width": 0}, "width: 0"), ({"hidden": -1}, "hidden: -1")])
def test_vgg_checks_what_it_is_given(changes: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        VggSmall(**changes)
