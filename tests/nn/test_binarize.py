"""Every method on networks that know nothing of it."""

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.nn import (
    SCHEMES,
    Binarization,
    Changes,
    ExactConv2d,
    QuantConv2d,
    QuantLayer,
    QuantLinear,
    ShiftBatchNorm,
    binarize_,
    find_scheme,
)
from binarch.nn.schemes import lq_net, xnor_net
from binarch.quantizers import Identity, Interaction, Sign
from binarch.spaces import published


def small() -> nn.Sequential:
    """A stem, a 3 x 3 and a 1 x 1 convolution, a hidden and a last linear layer."""
    torch.manual_seed(0)
    parts = OrderedDict(
        stem=nn.Conv2d(3, 8, 3, padding=1, bias=False), norm0=nn.BatchNorm2d(8), relu0=nn.ReLU(),
        conv=nn.Conv2d(8, 8, 3, padding=1, stride=2), norm1=nn.BatchNorm2d(8), relu1=nn.ReLU(inplace=True),
        point=nn.Conv2d(8, 16, 1, bias=False), norm2=nn.BatchNorm2d(16), relu2=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(2),
        flat=nn.Flatten(), hidden=nn.Linear(64, 16), last=nn.Linear(16, 10),
    )  # fmt: skip
    return nn.Sequential(parts)


class Branches(nn.Module):
    """Two branches on the same picture, one of them dilated and grouped, and a shortcut around a shared ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 5, padding=2)
        relu = nn.ReLU()
        self.body = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.BatchNorm2d(16), relu,
            nn.Conv2d(16, 16, (1, 3), padding=(0, 1), groups=4), nn.BatchNorm2d(16), relu,
        )  # fmt: skip
        self.norm, self.last = nn.BatchNorm2d(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.left(x), self.right(x)], 1)
        return self.last(self.norm(joined + self.body(joined)).mean((2, 3)))


def cells() -> nn.Module:
    torch.manual_seed(0)
    return NetworkConfig(space="darts", cells=3, channels=8).build(published("darts-v2"), 10, "none")


def of_timm() -> nn.Module:
    torch.manual_seed(0)
    return pytest.importorskip("timm").create_model("resnet18", pretrained=False, num_classes=10)


def inner_of_branches(name: str, layer: nn.Module) -> bool:
    return name.startswith("body")


def square_and_ungrouped(name: str, layer: nn.Module) -> bool:
    """What circulant filters take."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.groups == 1 and layer.in_channels > 3


def where_for(network: str, scheme: str) -> Callable[[str, nn.Module], bool] | None:
    if network == "branches":
        return square_and_ungrouped if scheme == "cbcn" else inner_of_branches
    return None


NETWORKS: dict[str, Callable[[], nn.Module]] = {"small": small, "branches": Branches, "cells": cells, "timm": of_timm}


def batch(size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, size, size, generator=generator), torch.arange(6)


def train(network: nn.Module, steps: int = 2, size: int = 16) -> list[float]:
    """Losses of a few steps on one batch, each followed by the methods' rules for latent weights."""
    torch.manual_seed(2)
    x, y = batch(size)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(steps):
        output = network.train()(x)
        loss = nn.functional.cross_entropy(output, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for module in network.modules():
            if isinstance(module, QuantLayer):
                module.settle()
        losses.append(loss.item())
    return losses


def snapshot(network: nn.Module) -> tuple[list[tuple[str, type, int]], dict[str, Tensor]]:
    kinds = [(name, type(module), id(module)) for name, module in network.named_modules()]
    return kinds, {name: value.clone() for name, value in network.state_dict().items()}


def assert_unchanged(network: nn.Module, before: tuple[list[tuple[str, type, int]], dict[str, Tensor]]) -> None:
    kinds, state = snapshot(network)
    assert kinds == before[0]
    assert list(state) == list(before[1])
    assert all(torch.equal(state[name], before[1][name]) for name in state)


# --- what becomes of the parts --------------------------------------------------------------------------------------

LAYERS = ("stem", "conv", "point", "hidden", "last")


def expected_layers(name: str) -> tuple[str, ...]:
    if name == "cbcn":
        return ("conv",)
    return LAYERS if name in ("bc", "bc-stochastic", "bnn", "bnn-shift") else LAYERS[1:-1]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_part_of_a_small_network(name: str, training: bool) -> None:
    network, scheme = small().train(training), find_scheme(name)
    before = copy.deepcopy(network)
    changes = binarize_(network, name)
    binarized = expected_layers(name)
    relus = () if scheme.nonlinearity == "keep" else ("relu0", "relu1", "relu2")
    norms = ("norm0", "norm1") if scheme.norm else ()
    assert changes == Changes(binarized, tuple(layer for layer in LAYERS if layer not in binarized), relus, norms)
    for layer in LAYERS:
        made, old = network.get_submodule(layer), before.get_submodule(layer)
        assert (made.bias is None) == (old.bias is None)
        if old.bias is not None:
            assert torch.equal(made.bias, old.bias)
        if layer in binarized:
            assert type(made) is (QuantLinear if isinstance(old, nn.Linear) else QuantConv2d)
            assert made.filter_shape == tuple(old.weight.shape)
            first = layer == "stem"  # it sees real pixels
            assert isinstance(made.activation_quantizer, Identity) is (first or scheme.bits[1] == 32)
            assert made.weight_quantizer.train().bits == scheme.bits[0]
            made.weight_quantizer.train(training)
        else:
            assert type(made) is (nn.Linear if isinstance(old, nn.Linear) else ExactConv2d)
            assert torch.equal(made.weight, old.weight)
    new_relu = {"keep": nn.ReLU, "hardtanh": nn.Hardtanh, "none": nn.Identity}[scheme.nonlinearity]
    assert all(type(network.get_submodule(f"relu{i}")) is new_relu for i in range(3))
    kinds = [type(network.get_submodule(f"norm{i}")) for i in range(3)]
    assert [kind is ShiftBatchNorm for kind in kinds] == [name == "bnn-shift"] * 2 + [False]
    plain = [network.get_submodule(f"norm{i}").weight is None for i in range(3)]
    assert plain == [name == "hwgq"] * 2 + [False]
    assert all(module.training is training for module in network.modules())
    assert network.conv.stride == (2, 2)


def test_latent_weights_start_at_the_network_s() -> None:
    for name in ("bats", "ttq", "hwgq", "lq-net", "ci-net"):
        network, before = small(), small()
        binarize_(network, name)
        assert torch.equal(network.conv.weight, before.conv.weight)
        assert network.conv.weight is not before.conv.weight


def test_signs_survive_the_start_of_binary_connect() -> None:
    network, before = small(), small()
    binarize_(network, "bc")
    for layer in LAYERS:
        new, old = network.get_submodule(layer).weight, before.get_submodule(layer).weight
        assert torch.equal(new >= 0, old >= 0)
        assert new.square().mean().item() == pytest.approx(1 / 3, rel=0.15)


def test_a_scheme_keeps_the_function_of_real_layers() -> None:
    """With real weights and no other change but the exact sums, outputs stay."""
    network, before, (x, _) = small().eval(), small().eval(), batch()
    changes = binarize_(network, find_scheme("ttq").with_real_weights())
    assert changes.binarized == LAYERS[1:-1]
    torch.testing.assert_close(network(x), before(x), rtol=1e-5, atol=1e-5)


def test_real_convolutions_compute_exactly_in_evaluation() -> None:
    network, (x, _) = small().eval(), batch()
    binarize_(network, "bats")
    double = nn.functional.conv2d(x.double(), network.stem.weight.double(), padding=1)
    assert torch.equal(network.stem(x), double.float())


def test_real_convolutions_of_our_own_become_exact_too() -> None:
    plain, scaled = Binarization("none"), Binarization("none", output_scale=True)
    network = nn.Sequential(
        plain.conv(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8),
        plain.conv(8, 8, 3, padding=2, dilation=2, groups=2), scaled.conv(8, 8, (1, 3)), plain.conv(8, 4, 1),
    ).eval()  # fmt: skip
    before, x = copy.deepcopy(network), torch.randn(2, 3, 12, 12)
    changes = binarize_(network, find_scheme("ttq").with_real_weights(), where=lambda name, layer: name == "4")
    assert changes == Changes(("4",), ("0", "2", "3"), (), ())
    assert [type(network[i]) for i in (0, 2, 3)] == [ExactConv2d, ExactConv2d, QuantConv2d]  # scales stay learnable
    assert [*network.state_dict()] == [*before.state_dict()]
    torch.testing.assert_close(network(x), before(x), rtol=1e-5, atol=1e-5)


# --- where ----------------------------------------------------------------------------------------------------------


def test_where_by_name() -> None:
    assert binarize_(small(), "bc", where="inner").binarized == LAYERS[1:-1]
    assert binarize_(small(), "xnor-net", where="all").binarized == LAYERS
    network = small()
    binarize_(network, "lq-net", where="all")
    assert isinstance(network.stem.activation_quantizer, Identity)
    assert network.hidden.activation_quantizer.bits == 2


def test_where_by_function() -> None:
    network = small()
    changes = binarize_(network, "bnn", where=lambda name, layer: name != "stem" and isinstance(layer, nn.Conv2d))
    assert changes.binarized == ("conv", "point")
    assert changes.kept_real == ("stem", "hidden", "last")
    assert type(network.hidden) is nn.Linear


def test_what_is_to_be_left_stays_whole() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())

    network = nn.Sequential()
    for name in ("first", "inner", "aside", "last"):
        network.add_module(name, nn.Conv2d(4, 4, 1) if name in ("first", "last") else block())
    changes = binarize_(network, "hwgq", leave=("aside",))
    assert (changes.binarized, changes.kept_real) == (("inner.0",), ("first", "last"))
    assert [type(part) for part in network.get_submodule("aside")] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert network.get_submodule("aside.1").affine


def test_binary_layers_are_left_alone_the_second_time() -> None:
    network = small()
    binarize_(network, "bats", where=lambda name, layer: name == "conv")
    conv = network.conv
    assert binarize_(network, "ttq", where="all").binarized == ("stem", "point", "hidden", "last")
    assert network.conv is conv


def test_the_first_layer_is_the_network_s_the_second_time_too() -> None:
    network = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(4)))
    binarize_(network, "bnn", where=lambda name, layer: name == "0")
    assert binarize_(network, "xnor-net", where="inner").binarized == ("1", "2")
    assert isinstance(network[0].activation_quantizer, Identity), "it sees real pixels"
    assert isinstance(network[1].activation_quantizer, Sign)


def test_a_module_in_several_places_is_replaced_in_all() -> None:
    network = Branches()
    changes = binarize_(network, "bats", where=inner_of_branches)
    assert changes.nonlinearities == ("body.2",)
    assert type(network.body[2]) is nn.Identity
    assert network.body[2] is network.body[5]
    shared = nn.Conv2d(4, 4, 3, padding=1)
    twice = nn.Sequential(nn.Conv2d(3, 4, 1), shared, nn.BatchNorm2d(4), shared, nn.Conv2d(4, 2, 1))
    assert binarize_(twice, "bats").binarized == ("1",)
    assert isinstance(twice[1], QuantConv2d)
    assert twice[1] is twice[3]


class NormAndRelu(nn.BatchNorm2d):
    """A norm that does more than a norm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_norms_lose_scale_and_shift_but_not_their_statistics() -> None:
    network = small().double()
    network.norm0.running_mean.fill_(3)
    network.norm1.momentum = 0.05
    binarize_(network, "hwgq")
    assert network.norm0.weight is network.norm0.bias is None
    assert network.norm0.running_mean.tolist() == [3] * 8
    assert network.norm0.running_mean.dtype == torch.float64
    assert network.norm1.momentum == 0.05
    assert network.norm2.weight is not None  # the last one
    assert network(batch()[0].double()).dtype == torch.float64


def test_unusual_norms() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 4, 1), NormAndRelu(4),
        nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1),
    )  # fmt: skip
    assert binarize_(network, "hwgq").norms == ("1",)
    assert network[1].running_mean is None
    assert type(network[3]) is NormAndRelu
    assert network(torch.randn(2, 3, 4, 4)).isfinite().all()


# --- training, saving -----------------------------------------------------------------------------------------------


def cannot(network: str, scheme: str) -> bool:
    """Depthwise filters have a single input: no circulant ones."""
    return network == "cells" and scheme == "cbcn"


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_binarized_networks_train_and_load(network: str, name: str) -> None:
    size = 32 if network == "timm" else 16
    made = NETWORKS[network]()
    if cannot(network, name):
        with pytest.raises(UserError, match="multiples of 4"):
            binarize_(made, name)
        return
    changes = binarize_(made, name, where=where_for(network, name))
    assert changes.binarized
    before = {layer: made.get_submodule(layer).weight.detach().clone() for layer in changes.binarized}
    losses = train(made, size=size)
    assert all(torch.tensor(losses).isfinite())
    for layer, weight in before.items():
        assert not torch.equal(made.get_submodule(layer).weight, weight), layer
    if name == "ci-net":
        for module in made.modules():
            if isinstance(module, Interaction):
                module.set_edges([])
    fresh = NETWORKS[network]()
    binarize_(fresh, name, where=where_for(network, name))
    fresh.load_state_dict(made.state_dict())
    x, _ = batch(size)
    with torch.no_grad():
        expected = made.eval()(x)
        assert expected.isfinite().all()
        assert torch.equal(fresh.eval()(x), expected)


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "bnn-shift"])  # needs its own optimizer
def test_losses_fall(name: str) -> None:
    network = small()
    binarize_(network, name, where="inner")  # with a last layer of +-1 the losses of a few steps say little
    losses = train(network, steps=25)
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("scheme", [lq_net(2, 3), xnor_net("published", input_scale=True)], ids=lambda s: s.name)
def test_other_settings_of_a_scheme(scheme: object) -> None:
    network = cells()
    binarize_(network, scheme)
    assert all(torch.tensor(train(network)).isfinite())


def test_a_timm_network_by_its_parts() -> None:
    network = of_timm()
    changes = binarize_(network, "bats")
    assert changes.kept_real == ("conv1", "fc")
    assert len(changes.binarized) == 19
    assert len(changes.nonlinearities) == 17
    changes = binarize_(of_timm(), "cbcn")
    assert len(changes.binarized) == 16
    assert changes.kept_real == (
        "conv1", "layer2.0.downsample.0", "layer3.0.downsample.0", "layer4.0.downsample.0", "fc"
    )  # fmt: skip


# --- latent rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bc", "bnn", "ccnn"])
def test_boxed_weights_stay_in_the_box(name: str) -> None:
    network = small()
    binarize_(network, name)
    layers = [module for module in network.modules() if isinstance(module, QuantLayer)]
    for layer in layers:
        assert layer.weight.abs().max() <= 1
        layer.weight.data.mul_(3)
        assert layer.weight.abs().max() > 1 or name == "ccnn"
        layer.settle()
        assert layer.weight.abs().max() <= 1


def test_steps_of_binary_connect_are_lengthened() -> None:
    network = nn.Sequential(nn.Conv2d(3, 128, 3), nn.Flatten(), nn.Linear(128, 10))
    binarize_(network, "bc")
    assert network[0].latent_rule.step_scale(network[0].weight) == pytest.approx(28.04, abs=0.005)


def test_weights_of_xnor_are_centred_from_the_start() -> None:
    network = small()
    network.conv.weight.data.add_(0.3)
    binarize_(network, "xnor-net")
    for layer in (network.conv, network.point, network.hidden):
        assert layer.weight.mean(1).abs().max() < 1e-6
    train(network)
    assert network.conv.weight.mean(1).abs().max() < 1e-6


def test_circulant_weights_are_a_quarter() -> None:
    network = small()
    binarize_(network, "cbcn")
    assert network.conv.weight.numel() == 8 * 8 * 9 // 4
    assert network.conv.filter_shape == (8, 8, 3, 3)


# --- errors ---------------------------------------------------------------------------------------------------------


def narrow() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 2, 1))


def padded(**options: object) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, **options), nn.Conv2d(4, 2, 1))


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize(
    "network, scheme, where, message",
    [
        (small, "xnor", None, r"scheme: 'xnor' is unknown; choose one of .*xnor-net"),
        (small, "bats", "most", r"where: 'most' is unknown; choose one of all, inner"),
        (two_layers, "bats", None, r"bats: there is nothing to binarize among 2 .*where='all'"),
        (two_layers, "cbcn", None, r"cbcn: there is nothing to binarize"),
        (small, "bats", lambda name, layer: False, r"nothing to binarize among 5 .*stem, conv, point, hidden"),
        (nn.ReLU, "bats", None, r"nothing to binarize among 0 .*none"),
        (lambda: nn.Linear(4, 4), "bnn", None, r"nothing to binarize"),
        (narrow, "cbcn", None, r"3: cbcn needs channels in multiples of 4, not 6 -> 6.*where="),
        (lambda: padded(padding=1, groups=1, padding_mode="reflect"), "bats", None, r"2: padding 1|\(1, 1\).*reflect"),
        (lambda: padded(padding="same"), "bats", None, r"2: padding 'same'"),
    ],
    ids=["scheme", "where", "two layers", "kernels", "function", "no layer", "a layer alone", "channels",
         "padding mode", "padding"],
)  # fmt: skip
def test_errors_are_named_and_nothing_changes(
    network: Callable[[], nn.Module], scheme: str, where: object, message: str
) -> None:
    made = network()
    before = snapshot(made)
    with pytest.raises(UserError, match=message):
        binarize_(made, scheme, where=where)
    assert_unchanged(made, before)


def test_groups_are_refused_by_circulant_filters() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1))
    before = snapshot(network)
    with pytest.raises(UserError, match="2: cbcn cannot take 2 groups"):
        binarize_(network, "cbcn")
    assert_unchanged(network, before)


def test_a_part_of_a_network_changes_what_leads_to_it_only() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    changes = binarize_(network, "hwgq", where=lambda name, layer: name == "6")
    assert (changes.binarized, changes.norms) == (("6",), ("4",))
    other = copy.deepcopy(network)
    changes = binarize_(other, "xnor-net", where=lambda name, layer: name == "3")
    assert (changes.binarized, changes.nonlinearities) == (("3",), ("2",))
    assert [type(other[at]) for at in (2, 5, 8)] == [nn.Identity, nn.ReLU6, nn.ReLU]


def test_the_last_norm_changes_where_it_leads_to_a_chosen_layer() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    assert binarize_(network, "hwgq", where=lambda name, layer: name == "4").norms == ("3",)
    assert not network[3].affine


def test_a_relu6_would_make_every_sign_plus_one() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 2)
    )
    assert binarize_(network, "bats").nonlinearities == ("2",)
    x = torch.randn(2, 3, 5, 5)
    assert not torch.equal(*network(x))


def test_layers_that_attention_reads_are_left_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attention = nn.Linear(4, 8), nn.MultiheadAttention(8, 2)
            self.hidden, self.last = nn.Linear(8, 8), nn.Linear(8, 2)

    network = Net()
    assert binarize_(network, "bnn").binarized == ("stem", "hidden", "last")
    assert isinstance(network.attention.out_proj, nn.Linear)


def test_weights_that_are_shared_or_computed_are_refused() -> None:
    shared = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    shared[1].weight = shared[2].weight
    with pytest.raises(UserError, match=r"2: shares its weight with 1"):
        binarize_(shared, "bnn")
    computed = nn.Sequential(nn.Linear(4, 4), nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    with pytest.raises(UserError, match=r"1: its weight is computed"):
        binarize_(computed, "bnn", where="inner")
    kept = nn.utils.weight_norm(nn.Conv2d(3, 4, 1))
    network = nn.Sequential(kept, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    assert binarize_(network, "bnn", where="inner").kept_real == ("0", "2")
    assert network[0] is kept, "what computes its weight is left as it is"


def test_what_was_frozen_stays_frozen() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].requires_grad_(False)
    binarize_(network, "bnn", where="inner")
    assert not network[1].weight.requires_grad
    assert not network[1].bias.requires_grad
    assert network[0].weight.requires_grad


def test_what_was_frozen_in_evaluation_stays_there() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    network[1].eval()
    binarize_(network, "hwgq", where="all")
    assert [part.training for part in network] == [True, False, True, True]
