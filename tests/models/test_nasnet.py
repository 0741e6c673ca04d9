"""NASNet-A and AmoebaNet-A: published sizes, and what parts them from DARTS' transcriptions."""

from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import DataConfig, load
from binarch.errors import UserError
from binarch.models import NetworkConfig, ScaffoldNetwork, ScheduledDropPath, build_model, costs
from binarch.models.nasnet import AMOEBANET_A, NASNET_A, ScaffoldCell, operation
from binarch.nn import DropPath, QuantLayer
from binarch.runs import RunFolder
from binarch.spaces import Genotype, published
from binarch.training import Display, TrainConfig, train

BOTH = pytest.mark.parametrize("genotype", [NASNET_A, AMOEBANET_A], ids=["nasnet-a", "amoebanet-a"])

#: The cells a second time, as the authors list them: operations, sources (0 is c_{k-1}), which states are used up.
LISTED = {
    "nasnet-a": (
        ("sep5 sep3 sep5 sep3 avg3 none avg3 avg3 sep3 none", "0111011100", "1000000"),
        ("sep5 sep7 max3 sep7 avg3 sep5 none avg3 sep3 max3", "0101013220", "1110000"),
    ),
    "amoebanet-a": (
        ("avg3 max3 sep3 none none avg3 sep3 sep5 avg3 sep3", "0011010250", "1010010"),
        ("sep3 avg3 max3 sep7 max3 max3 sep3 1x7 avg3 sep7", "1002104010", "1100000"),
    ),
}
SHORT = {"none": "skip_connect", "1x7": "conv_7x1_1x7"}
LONG = {"sep": "sep_conv_{0}x{0}", "avg": "avg_pool_{0}x{0}", "max": "max_pool_{0}x{0}"}


def tiny(genotype: Genotype, **options: bool | int) -> ScaffoldNetwork:
    """One normal cell in each third: N, R, N, R, N."""
    torch.manual_seed(0)
    return ScaffoldNetwork(genotype, **({"width": 4, "stem": 12, "classes": 5, "repeats": 1} | options))


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name, genotype", [("nasnet-a", NASNET_A), ("amoebanet-a", AMOEBANET_A)])
def test_the_cells_are_the_listed_ones(name: str, genotype: Genotype) -> None:
    swapped = {0: 1, 1: 0}
    for cell, (operations, sources, used) in zip((genotype.normal, genotype.reduce), LISTED[name], strict=True):
        names = [SHORT.get(o) or LONG[o[:3]].format(o[3]) for o in operations.split()]
        states = [swapped.get(int(s), int(s)) for s in sources]
        assert [(edge.primitive, edge.source) for edge in cell.edges] == list(zip(names, states, strict=True))
        assert set(cell.concat) == {swapped.get(at, at) for at, flag in enumerate(used) if flag == "0"}


def test_nasnet_differs_from_the_transcription_in_its_output_only() -> None:
    other = published("nasnet")
    assert (NASNET_A.normal.nodes, NASNET_A.reduce.nodes) == (other.normal.nodes, other.reduce.nodes)
    assert (NASNET_A.normal.concat, other.normal.concat) == ((0, 2, 3, 4, 5, 6), (2, 3, 4, 5, 6))
    assert (NASNET_A.reduce.concat, other.reduce.concat) == ((3, 4, 5, 6), (4, 5, 6))


@pytest.mark.parametrize(
    "genotype, width, stem, expected, last",
    [
        (NASNET_A, 32, 96, 3_346_538, 768),
        (AMOEBANET_A, 36, 32, 3_198_962, 576),
        (AMOEBANET_A, 36, 108, 3_218_266, 576),
        (AMOEBANET_A, 32, 32, 2_548_682, 512),
        (AMOEBANET_A, 32, 96, 2_567_754, 512),
    ],
)
def test_published_sizes(genotype: Genotype, width: int, stem: int, expected: int, last: int) -> None:
    with torch.device("meta"):
        network = ScaffoldNetwork(genotype, width=width, stem=stem, classes=10)
    assert size(network) == expected
    assert network.classifier[-1].in_features == last
    assert len(network.cells) == 20


def test_costs_leave_the_auxiliary_head_out() -> None:
    with torch.device("meta"):
        plain, head = (build_model("nasnet-a", classes=10, image_size=32, auxiliary=on) for on in (False, True))
        assert costs(plain, 32).params == 3_346_538
        assert costs(head, 32) == costs(plain, 32)
    assert isinstance(head.auxiliary, nn.Module)
    assert size(head) - size(plain) == 6 * 64 * 128 + 256 + 128 * 16 * 768 + 1536 + 7690  # a map of 4 x 4 is left


@BOTH
def test_reductions_halve_maps_and_double_widths(genotype: Genotype) -> None:
    network = tiny(genotype, repeats=2).eval()
    shapes: list[torch.Size] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda _, __, output: shapes.append(output.shape[1:]))
    network(torch.randn(2, 3, 12, 12))
    many, few = len(genotype.normal.concat), len(genotype.reduce.concat)
    widths = [4 * many, 4 * many, 8 * few, 8 * many, 8 * many, 16 * few, 16 * many, 16 * many]
    assert [tuple(shape) for shape in shapes] == [
        (w, s, s) for w, s in zip(widths, (12, 12, 6, 6, 6, 3, 3, 3), strict=True)
    ]


@BOTH
def test_only_the_first_cell_projects_inside(genotype: Genotype) -> None:
    first, *others = tiny(genotype).cells
    assert isinstance(first.preprocess0, nn.Identity)
    assert not isinstance(first.outputs[0], nn.Identity)
    assert [type(m) for m in first.outputs[0]] == [nn.Conv2d, nn.BatchNorm2d]  # no ReLU before
    pools = [m for m, edge in zip(first.operations, genotype.normal.edges, strict=True) if "avg" in edge.primitive]
    assert any(isinstance(m, nn.Sequential) and [type(p) for p in m][1:] == [nn.Conv2d, nn.BatchNorm2d] for m in pools)
    for cell in others:
        assert isinstance(cell.preprocess0, nn.Sequential)
        assert all(isinstance(m, nn.Identity) for m in cell.outputs)
        assert not any(isinstance(m, nn.Sequential) and isinstance(m[0], nn.AvgPool2d) for m in cell.operations)


def test_a_stem_of_the_cell_s_width_stays_bare() -> None:
    first, second, *_ = tiny(AMOEBANET_A, stem=4, repeats=2).cells
    assert isinstance(first.preprocess0, nn.Identity)
    assert isinstance(second.preprocess0, nn.Identity)
    assert all(isinstance(m, nn.Identity) for m in first.outputs)


def test_a_first_cell_is_the_written_sum() -> None:
    cell = ScaffoldCell(NASNET_A.normal, (6, 6), 4, reduction=False, halve_first=False, bare=True).eval()
    x = torch.randn(2, 6, 5, 5)
    current = cell.preprocess1(x)
    pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    first, second = (cell.operations[e][1:](pooled) for e in (6, 7))
    y = cell(x, x)
    torch.testing.assert_close(y[:, :4], cell.outputs[0](x))
    torch.testing.assert_close(y[:, 16:20], first + second)
    torch.testing.assert_close(y[:, 20:], cell.operations[8](current) + current)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_long_convolutions_of_amoebanet_are_a_bottleneck(stride: int) -> None:
    module = operation("conv_7x1_1x7", 8, 16, stride)
    shapes = [tuple(p.shape) for p in module.parameters() if p.dim() == 4]
    assert shapes == [(4, 8, 1, 1), (4, 4, 1, 7), (4, 4, 7, 1), (16, 4, 1, 1)]
    assert "".join(type(part).__name__[0] for part in module) == "RCB" * 4
    assert module(torch.randn(2, 8, 7, 7)).shape == (2, 16, -(-7 // stride), -(-7 // stride))


def test_a_halved_identity_is_one_strided_convolution() -> None:
    shapes = [tuple(p.shape) for p in operation("skip_connect", 8, 8, 2).parameters() if p.dim() == 4]
    assert shapes == [(8, 8, 1, 1)]
    with pytest.raises(UserError, match="primitive: 'dil_conv_3x3' is in no cell"):
        operation("dil_conv_3x3", 8, 8, 1)


@BOTH
@pytest.mark.parametrize("side", [8, 9, 13])
def test_forward_and_backward_at_every_size(genotype: Genotype, side: int) -> None:
    network = tiny(genotype)
    logits = network(torch.randn(3, 3, side, side + 2))
    assert logits.shape == (3, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_relu_stands_before_the_last_pool_and_the_auxiliary_head() -> None:
    network = tiny(NASNET_A, auxiliary=True, image_size=16).eval()
    assert network.auxiliary is not None
    seen: list[Tensor] = []
    network.cells[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    logits = network(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(logits, network.classifier[-1](seen[0].relu().mean((2, 3))))
    assert isinstance(network.auxiliary[0], nn.ReLU)


@BOTH
def test_the_auxiliary_head_reads_the_cell_before_the_second_reduction(genotype: Genotype) -> None:
    network = tiny(genotype, auxiliary=True, image_size=16)
    images = torch.randn(2, 3, 16, 16)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (2, 5)
    auxiliary.sum().backward()
    reached = [any(p.grad is not None for p in cell.parameters()) for cell in network.cells]
    assert reached == [True, True, True, False, False]
    assert network.eval()(images).shape == (2, 5)


@pytest.mark.parametrize("side, kernel", [(9, 1), (16, 2), (32, 4)])
def test_the_auxiliary_head_spans_its_map(side: int, kernel: int) -> None:
    network = tiny(AMOEBANET_A, auxiliary=True, image_size=side)
    assert network.auxiliary is not None
    assert network.auxiliary[5].kernel_size == (kernel, kernel)
    assert network(torch.randn(2, 3, side, side))[1].shape == (2, 5)


def test_edges_are_dropped_the_more_often_the_deeper() -> None:
    network = tiny(NASNET_A)
    assert isinstance(network, ScheduledDropPath)  # which is what a training asks for
    network.set_drop_path(0.5)
    assert [cell.drop_path.probability for cell in network.cells] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert sum(isinstance(m, DropPath) for m in network.modules()) == 5
    images = torch.randn(8, 3, 8, 8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_identities_are_never_dropped_projected_or_not() -> None:
    cell = ScaffoldCell(AMOEBANET_A.normal, (6, 6), 4, reduction=False, halve_first=False, bare=True)
    cell.drop_path.probability = 1 - 1e-9
    x = torch.randn(4, 6, 5, 5)
    for at, edge in enumerate(AMOEBANET_A.normal.edges[:6]):
        assert bool(cell._edge(at, x if edge.source == 0 else x[:, :4]).any()) == (edge.primitive == "skip_connect")


def test_filters_start_with_the_variance_of_their_fan_out() -> None:
    torch.manual_seed(0)
    network = build_model("nasnet-a", classes=10, image_size=32)
    scaled = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs = module.out_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            scaled.append((module.weight * outputs**0.5).flatten())
    numbers = torch.cat(scaled).detach()
    assert numbers.var() == pytest.approx(2, abs=0.03)
    assert numbers.abs().max() <= 2 * 2.6**0.5 + 1e-4
    assert not network.classifier[-1].bias.any()


def test_a_binarized_network_keeps_its_auxiliary_head_real() -> None:
    config = NetworkConfig(scheme="bats", where="inner", width=4, auxiliary=True)
    network = config.build("nasnet-a", 5, "both", 16)
    assert isinstance(network, ScaffoldNetwork)
    assert network.auxiliary is not None
    assert not any(isinstance(m, QuantLayer) for part in (network.auxiliary, network.stem) for m in part.modules())
    assert sum(isinstance(m, nn.ReLU) for m in network.auxiliary.modules()) == 3
    assert isinstance(network.classifier[-1], nn.Linear)
    cells = [m for m in network.cells.modules() if isinstance(m, QuantLayer)]
    plain = NetworkConfig(scheme="bats", where="inner", width=4).build("nasnet-a", 5, "both", 16)
    assert cells
    assert len(cells) == sum(isinstance(m, QuantLayer) for m in plain.modules())
    assert len(network(torch.randn(2, 3, 16, 16))) == 2


@pytest.mark.parametrize(
    "arch, side, said",
    [("nasnet-a", 8, "auxiliary: images of 8 pixels"), ("resnet20", 32, "auxiliary: resnet20 has no auxiliary head")],
)
def test_an_auxiliary_head_that_cannot_be_is_refused(arch: str, side: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        NetworkConfig(auxiliary=True, width=4).check(arch, ("none",), 10, side)


def test_one_repeat_is_the_least() -> None:
    assert [len(tiny(NASNET_A, repeats=n).cells) for n in (1, 2)] == [5, 8]
    with pytest.raises(UserError, match="repeats: 0"):
        tiny(NASNET_A, repeats=0)


@pytest.mark.slow
def test_a_training_with_drop_path_and_auxiliary_head(tmp_path: Path) -> None:
    config = TrainConfig(
        data=DataConfig(limit=40, image_size=12), network=NetworkConfig(width=4, auxiliary=True), binarize=("none",),
        epochs=(3,), weight_decay=(0.0,), batch_size=20, crop_padding=1, flip="none", drop_path=0.3, validation=0.0,
    )  # fmt: skip
    result = train("amoebanet-a", config, load(config.data), RunFolder(tmp_path), Display(console=Console(quiet=True)))
    assert len(RunFolder(tmp_path).metrics()) == 3
    assert any(name.startswith("auxiliary.") for name in load_file(tmp_path / "network.safetensors"))
    assert 0 <= result["test_accuracy"] <= 1
