"""Networks against their published sizes, and how they run."""

from typing import Any

import pytest
import torch
from torch import nn

from binarch.errors import UserError
from binarch.models import CellNetwork, NetworkConfig, Stem, costs, reductions
from binarch.models.cell_network import CellModule
from binarch.nn import Binarization, DropPath, QuantConv2d
from binarch.quantizers import PolynomialSign
from binarch.spaces import PUBLISHED, Bats, Cell, Darts, Edge, Genotype, Nasnet, published

REAL = Darts(Binarization("none"))

#: Published name: C = 36 with 10 and 100 classes, C = 32 with 10, ImageNet with C = 48.
DARTS_SIZES = {
    "darts-v1": (3_169_414, 3_221_344, 2_522_218, 4_510_432),
    "darts-v2": (3_349_342, 3_401_272, 2_666_026, 4_718_752),
    "pdarts": (3_433_798, 3_485_728, 2_736_746, 4_944_352),
    "nasnet": (3_830_950, 3_895_840, 3_061_738, 5_564_320),
    "amoebanet": (3_145_078, 3_184_048, 2_509_674, 4_627_360),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(
    name: str,
    space: Darts | Bats,
    channels: int,
    cells: int = 20,
    classes: int = 10,
    stem: Stem = "cifar",
    **options: bool,
) -> CellNetwork:
    with torch.device("meta"):
        return CellNetwork(
            published(name), space, channels=channels, cells=cells, classes=classes, stem=stem, **options
        )


@pytest.mark.parametrize("name, sizes", DARTS_SIZES.items())
def test_sizes_in_the_darts_space(name: str, sizes: tuple[int, ...]) -> None:
    assert sizes == (
        count(on_meta(name, REAL, 36)),
        count(on_meta(name, REAL, 36, classes=100)),
        count(on_meta(name, REAL, 32)),
        count(on_meta(name, REAL, 48, 14, 1000, "imagenet")),
    )


@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
@pytest.mark.parametrize(
    "name, channels, size",
    [("darts-v2", 36, 2_153_566), ("darts-v2", 48, 3_799_930), ("pdarts", 36, 2_595_502), ("pdarts", 48, 4_583_866)],
)
def test_sizes_in_the_bats_space(name: str, channels: int, size: int, binarize: str) -> None:
    assert count(on_meta(name, Bats(Binarization(binarize)), channels)) == size


def test_parts_of_a_bats_network() -> None:
    network = on_meta("darts-v2", Bats(Binarization()), 36)
    norms = sum(count(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    filters = sum(p.numel() for p in network.parameters() if p.dim() == 4)
    assert (filters, norms, count(network.classifier)) == (2_092_068, 43_200, 5_770)


@pytest.mark.parametrize("channels, groups, size", [(80, 20, 8_428_400), (160, 40, 25_854_200)])
def test_sizes_of_bats_on_imagenet(channels: int, groups: int, size: int) -> None:
    assert count(on_meta("pdarts", Bats(Binarization(), groups), channels, 14, 1000, "imagenet")) == size


@pytest.mark.parametrize("name, extra", [("darts-v2", 476_426), ("pdarts", 476_426), ("nasnet", 457_994)])
def test_the_auxiliary_head_adds(name: str, extra: int) -> None:
    assert count(on_meta(name, REAL, 36, auxiliary=True)) - DARTS_SIZES[name][0] == extra


@pytest.mark.parametrize(
    "cells, at", [(20, (6, 13)), (8, (2, 5)), (5, (1, 3)), (11, (3, 7)), (14, (4, 9)), (3, (1, 2))]
)
def test_reductions(cells: int, at: tuple[int, int]) -> None:
    assert reductions(cells) == at


@pytest.mark.parametrize("cells", [2, 1, 0])
def test_too_few_cells_are_named(cells: int) -> None:
    with pytest.raises(UserError, match=f"cells: {cells} is too few"):
        NetworkConfig(cells=cells).build(published("darts-v2"), 10, "both")


@pytest.mark.parametrize("space, channels", [("bats", 16), ("bats", 0), ("darts", 15)])
def test_widths_that_do_not_fit_are_named(space: str, channels: int) -> None:
    config = NetworkConfig(space=space, channels=channels, cells=3)
    with pytest.raises(UserError, match=f"channels: {channels}"):
        config.build(published("darts-v2"), 10, "none")


def test_a_genotype_must_fit_the_space_before_anything_is_built() -> None:
    node = (Edge("conv_1x1", 0), Edge("max_pool_5x5", 1))
    genotype = Genotype(Cell((node,), (2,)), Cell((node,), (2,)))
    for space, channels in (("bats", 12), ("darts", 4)):
        with pytest.raises(UserError, match=f"primitive: 'conv_1x1' is unknown in the {space} space"):
            NetworkConfig(space=space, channels=channels, cells=3).check(genotype, ("none",), 10, 32)
    config = NetworkConfig(space="nasnet", channels=4, cells=3)
    config.check(genotype, ("none",), 10, 32)
    assert config.build(genotype, 5, "none")(torch.randn(2, 3, 9, 9)).shape == (2, 5)


def test_a_found_cell_of_nasnet_hands_on_its_loose_ends() -> None:
    names = iter(Nasnet.primitives)
    pairs = [(0, 0), (1, 2), (0, 2), (3, 3), (1, 4)]
    cell = Nasnet.rules.cell([tuple(Edge(next(names), source) for source in pair) for pair in pairs])
    assert cell.concat == (5, 6)
    network = NetworkConfig(space="nasnet", channels=4, cells=3).build(Genotype(cell, cell), 5, "none")
    assert network.classifier.in_features == 16 * 2
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    assert network.stem0[0].weight.grad.isfinite().all()


def test_a_binary_darts_network_is_refused() -> None:
    with pytest.raises(UserError, match="binarize: 'both'"):
        NetworkConfig(space="darts").build(published("darts-v2"), 10, "both")


@pytest.mark.parametrize("config, binarize", [
    (NetworkConfig("darts", cells=3, channels=16), "none"),
    (NetworkConfig("bats", cells=3, channels=12), "none"),
    (NetworkConfig("bats", cells=3, channels=12), "activations"),
    (NetworkConfig("bats", cells=3, channels=12, output_scale=True), "both"),
], ids=["darts", "bats-none", "bats-activations", "bats-both"])  # fmt: skip
@pytest.mark.parametrize("name", PUBLISHED)
def test_forward_and_backward(name: str, config: NetworkConfig, binarize: str) -> None:
    torch.manual_seed(0)
    network = config.build(published(name), 7, binarize)
    logits = network(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()
    logits.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("size", [15, 18, 21])
@pytest.mark.parametrize("space, binarize", [("darts", "none"), ("bats", "both")])
def test_odd_sizes_run(space: str, binarize: str, size: int) -> None:
    network = NetworkConfig(space, cells=5, channels=12).build(published("nasnet"), 4, binarize)
    assert network(torch.randn(2, 3, size, size)).shape == (2, 4)


@pytest.mark.parametrize("space", [REAL, Bats(Binarization(), 4)], ids=["darts", "bats"])
def test_imagenet_network_runs(space: Darts | Bats) -> None:
    network = CellNetwork(
        published("pdarts"), space, channels=8, cells=3, classes=5, stem="imagenet", auxiliary=True
    ).eval()
    assert network(torch.randn(1, 3, 224, 224)).shape == (1, 5)


@pytest.mark.parametrize("space, binarize", [("darts", "none"), ("bats", "both")])
def test_auxiliary_output_is_for_training(space: str, binarize: str) -> None:
    config = NetworkConfig(space, cells=3, channels=12, auxiliary=True)
    network = config.build(published("darts-v2"), 7, binarize)
    images = torch.randn(2, 3, 32, 32)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (2, 7)
    auxiliary.sum().backward()
    assert network.stem0[0].weight.grad.abs().sum() > 0
    assert network.classifier.weight.grad is None
    assert network.eval()(images).shape == (2, 7)


def test_least_image_of_the_auxiliary_head() -> None:
    """A map of 8 pixels is the least that a pool of 5 with stride 3 leaves 2 x 2 of."""
    network = NetworkConfig(cells=3, channels=12, auxiliary=True).build(published("darts-v2"), 7, "both")
    assert network(torch.randn(2, 3, 29, 29))[1].shape == (2, 7)


def test_classifier_stem_and_head_of_a_binary_network_are_real() -> None:
    network = NetworkConfig(cells=3, channels=12, auxiliary=True).build(published("pdarts"), 7, "both")
    cells = {m for m in network.cells.modules() if isinstance(m, QuantConv2d)}
    assert cells == {m for m in network.modules() if isinstance(m, QuantConv2d)}
    assert cells
    assert all(m.is_binary for m in cells)
    assert not any(isinstance(m, nn.Conv2d) for m in network.cells.modules())
    assert isinstance(network.classifier, nn.Linear)


def drop(edges: tuple[Edge, Edge], probability: float) -> CellModule:
    """A cell of one node whose two edges may be dropped."""
    torch.manual_seed(0)
    cell = Cell((edges,), (2,))
    module = CellModule(cell, REAL, (4, 4), 4, reduction=False, halve_first=False, drop_path=DropPath(probability))
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    return module


def test_drop_path_spares_identities_and_drops_the_rest() -> None:
    s0, s1 = torch.randn(64, 4, 5, 5), torch.randn(64, 4, 5, 5)
    identities = drop((Edge("skip_connect", 0), Edge("skip_connect", 1)), 0.9)
    torch.testing.assert_close(identities(s0, s1), identities.preprocess0(s0) + identities.preprocess1(s1))
    mixed = drop((Edge("skip_connect", 0), Edge("sep_conv_3x3", 1)), 0.5)
    kept, edge = mixed.preprocess0(s0), mixed.operations[1](mixed.preprocess1(s1))
    y = mixed(s0, s1)
    dropped = torch.tensor([torch.equal(a, b) for a, b in zip(y, kept, strict=True)])
    assert 10 < dropped.sum() < 54
    torch.testing.assert_close(y[~dropped], (kept + 2 * edge)[~dropped])


def test_the_drop_path_setter_reaches_every_edge() -> None:
    network = NetworkConfig(cells=3, channels=12).build(published("darts-v2"), 7, "both")
    paths = [m for m in network.modules() if isinstance(m, DropPath)]
    network.set_drop_path(0.3)
    assert paths
    assert {m.probability for m in paths} == {0.3}
    assert all(cell.drop_path.probability == 0.3 for cell in network.cells)
    images = torch.randn(8, 3, 16, 16)
    assert not torch.equal(network(images), network(images))
    network.set_drop_path(0.0)
    assert torch.equal(network(images), network(images))
    network.set_drop_path(0.3)
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("options", [{"output_scale": True}, {"scheme": "standardised"}], ids=str)
def test_the_second_stage_loads_the_first_and_every_filter_has_one_magnitude(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(cells=3, channels=12, **options)
    first = config.build(published("pdarts"), 7, "activations")
    optimizer = torch.optim.SGD(first.parameters(), 0.1)
    images = torch.randn(4, 3, 16, 16)
    first(images).square().sum().backward()
    optimizer.step()
    second = config.build(published("pdarts"), 7, "both")
    second.load_state_dict(first.state_dict(), strict=True)
    pairs = [(a, b) for a, b in zip(first.modules(), second.modules(), strict=True) if isinstance(a, QuantConv2d)]
    assert pairs
    for real, binary in pairs:
        assert torch.equal(real.weight, binary.weight)
        filters = binary.weight_quantizer(binary.weight.detach())
        assert all(f.abs().unique().numel() == 1 for f in filters)
        assert real.weight_quantizer(real.weight)[0].abs().unique().numel() > 1
        x = torch.randn(1, real.weight.shape[1], 3, 3)
        assert torch.equal(real.activation_quantizer(x), binary.activation_quantizer(x))


def test_schemes_of_the_catalogue_are_refused() -> None:
    with pytest.raises(UserError, match=r"scheme: xnor-net is not possible .* one of bats, standardised"):
        NetworkConfig(scheme="xnor-net").check(published("pdarts"), ("both",), 10, 32)
    with pytest.raises(UserError, match="scheme: standardised is not possible in cells of the darts space"):
        NetworkConfig("darts", scheme="standardised").build(published("pdarts"), 10, "none")


@pytest.mark.parametrize("arch", ["cells", "reactnet-small"])
def test_the_gradient_of_signs_reaches_the_network(arch: str) -> None:
    config = NetworkConfig(cells=3, channels=12, width=0 if arch == "cells" else 8, sign_gradient="polynomial")
    network = config.build(published("pdarts") if arch == "cells" else arch, 10, "both")
    convolutions = [module for module in network.modules() if isinstance(module, QuantConv2d)]
    assert convolutions
    assert all(isinstance(module.activation_quantizer, PolynomialSign) for module in convolutions)


def test_gradients_of_signs_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="sign_gradient: window is not possible with hwgq"):
        NetworkConfig(scheme="hwgq", sign_gradient="window").check("vgg-small", ("both",), 10, 32)
    with pytest.raises(UserError, match="sign_gradient: window is not possible in cells of the darts space"):
        NetworkConfig("darts", sign_gradient="window").check(published("pdarts"), ("none",), 10, 32)


def test_a_cell_sums_its_edges_and_concatenates_its_states() -> None:
    torch.manual_seed(0)
    nodes = ((Edge("max_pool_3x3", 0), Edge("skip_connect", 1)), (Edge("skip_connect", 2), Edge("none", 0)))
    module = CellModule(
        Cell(nodes, (3, 1)), REAL, (6, 4), 4, reduction=False, halve_first=False, drop_path=DropPath()
    ).eval()
    s0, s1 = torch.randn(2, 6, 5, 5), torch.randn(2, 4, 5, 5)
    a, b = module.preprocess0(s0), module.preprocess1(s1)
    node = nn.functional.max_pool2d(a, 3, 1, 1) + b
    torch.testing.assert_close(module(s0, s1), torch.cat([node, b], 1))


def test_the_half_stem_leaves_a_quarter_of_the_work() -> None:
    genotype = published("pdarts")
    whole, half = (
        NetworkConfig(cells=3, channels=8, groups=4, stem=stem).build(genotype, 5, "both", 16)  # type: ignore[arg-type]
        for stem in ("cifar", "half")
    )
    assert count(half) - count(whole) == 24 * 3 * (16 - 9)
    work = [costs(network, 16) for network in (whole, half)]
    assert work[0].binary_macs == 4 * work[1].binary_macs
    assert half(torch.randn(2, 3, 16, 16)).shape == (2, 5)


def test_the_half_stem_has_no_room_for_an_auxiliary_head_at_32_pixels() -> None:
    config = NetworkConfig(stem="half", auxiliary=True)
    with pytest.raises(UserError, match="it needs 64"):
        config.check(published("pdarts"), ("both",), 10, 32)
    config.check(published("pdarts"), ("both",), 10, 64)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(UserError, match="stem"):
        NetworkConfig(stem="huge").check(published("pdarts"), ("both",), 10, 32)  # type: ignore[arg-type]
