"""Primitives of the spaces: shapes, parameter counts, written formulas."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn import Binarization, ChannelShuffle, QuantConv2d
from binarch.quantizers import CentredSign
from binarch.spaces import PUBLISHED, SPACES, Bats, Darts, Edge, Nasnet, Space, build_space, published
from binarch.spaces.genotype import PRIMITIVES

DARTS, BATS, NASNET = Darts(Binarization("none")), Bats(Binarization("both")), Nasnet(Binarization("none"))
ALL = pytest.mark.parametrize("space", [DARTS, BATS, NASNET], ids=lambda space: space.name)
BOTH = pytest.mark.parametrize("space", [DARTS, BATS], ids=lambda space: space.name)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("search", [False, True], ids=["network", "search"])
@pytest.mark.parametrize("size", [32, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "space, name", [pytest.param(s, n, id=f"{s.name}-{n}") for s in (DARTS, BATS, NASNET) for n in s.primitives]
)
def test_shapes(space: Space, name: str, stride: int, size: int, search: bool) -> None:
    y = space.primitive(name, 12, stride, search=search)(torch.randn(2, 12, size, size))
    assert y.shape == (2, 12, -(-size // stride), -(-size // stride))


@pytest.mark.parametrize(
    "name, stride, params",
    [("sep_conv_3x3", 1, 3384), ("sep_conv_5x5", 1, 4536), ("sep_conv_7x7", 1, 6264), ("dil_conv_3x3", 1, 1692),
     ("dil_conv_5x5", 1, 2268), ("conv_7x1_1x7", 1, 18216), ("skip_connect", 2, 1368), ("skip_connect", 1, 0),
     ("max_pool_3x3", 2, 0), ("avg_pool_3x3", 2, 0), ("none", 2, 0)],
)  # fmt: skip
def test_parameters_of_darts(name: str, stride: int, params: int) -> None:
    assert count(DARTS.primitive(name, 36, stride)) == params


@pytest.mark.parametrize(
    "name, stride, params",
    [("sep_conv_3x3", 1, 800), ("sep_conv_5x5", 1, 1312), ("dil_conv_3x3", 1, 400), ("dil_conv_5x5", 1, 656),
     ("skip_connect", 2, 256), ("max_pool_3x3", 1, 0), ("avg_pool_3x3", 1, 0)],
)  # fmt: skip
def test_parameters_of_darts_in_search(name: str, stride: int, params: int) -> None:
    assert count(DARTS.primitive(name, 16, stride, search=True)) == params


@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
@pytest.mark.parametrize(
    "name, stride, params",
    [("sep_conv_3x3", 1, 1080), ("sep_conv_5x5", 1, 2808), ("sep_conv_7x7", 1, 5400), ("dil_conv_3x3", 1, 1080),
     ("dil_conv_5x5", 1, 2808), ("conv_7x1_1x7", 1, 18360), ("skip_connect", 2, 1404), ("skip_connect", 1, 0),
     ("max_pool_3x3", 2, 0), ("avg_pool_3x3", 2, 0), ("none", 2, 0)],
)  # fmt: skip
def test_parameters_of_bats(binarize: str, name: str, stride: int, params: int) -> None:
    assert count(Bats(Binarization(binarize), groups=12).primitive(name, 36, stride)) == params


def test_output_scale_adds_one_number_per_filter() -> None:
    space = Bats(Binarization("both", output_scale=True))
    assert count(space.primitive("sep_conv_3x3", 36, 1)) == 1080 + 36
    assert count(space.primitive("skip_connect", 36, 2)) == 1404 + 36


@ALL
def test_a_supernet_form_holds_filters_and_slopes_alone(space: Space) -> None:
    for name in space.rules.candidates:
        for stride in (1, 2):
            module = space.primitive(name, 12, stride, search=True)
            assert not list(module.buffers())
            assert not any(
                p.requires_grad for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
            )


@ALL
def test_pools_leave_padding_out(space: Space) -> None:
    x = torch.rand(1, 12, 6, 6) + 0.5
    average = space.primitive("avg_pool_3x3", 12, 1)(torch.ones(1, 12, 6, 6))
    assert torch.equal(average, torch.ones_like(average))
    corner = space.primitive("avg_pool_3x3", 12, 1)(x)[..., 0, 0]
    torch.testing.assert_close(corner, x[..., :2, :2].mean((2, 3)))
    torch.testing.assert_close(space.primitive("max_pool_3x3", 12, 2)(-x)[..., 0, 0], (-x)[..., :2, :2].amax((2, 3)))


@ALL
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_pools_are_normalized_only_in_search(space: Space, name: str) -> None:
    torch.manual_seed(0)
    x = 5 * torch.randn(8, 12, 6, 6) + 3
    plain, search = space.primitive(name, 12, 1), space.primitive(name, 12, 1, search=True)
    torch.testing.assert_close(search(x), functional.batch_norm(plain(x), None, None, training=True))
    assert plain(x).mean() > 1


@BOTH
def test_identity_and_none(space: Space) -> None:
    x = torch.randn(1, 12, 4, 4)
    assert space.primitive("skip_connect", 12, 1)(x) is x
    assert not space.primitive("none", 12, 1)(x).any()


def normalized(x: Tensor) -> Tensor:
    return functional.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "name, kernel, dilation",
    [("sep_conv_3x3", 3, 1), ("sep_conv_5x5", 5, 1), ("dil_conv_3x3", 3, 2), ("dil_conv_5x5", 5, 2)],
)
def test_a_bats_convolution_is_the_written_formula(
    name: str, kernel: int, dilation: int, stride: int, binarize: str, size: int
) -> None:
    """x + shuffle(PReLU(conv(sign(BN(x))))), without "x +" where stride is 2."""
    torch.manual_seed(0)
    module = Bats(Binarization(binarize), groups=6).primitive(name, 12, stride).double()
    conv = next(m for m in module.modules() if isinstance(m, QuantConv2d))
    slope = next(p for key, p in module.named_parameters() if p.shape == (12,) and key.endswith("2.weight"))
    slope.data.copy_(torch.rand(12))
    x = torch.randn(3, 12, size, size, dtype=torch.float64)
    code = normalized(x) if binarize == "none" else torch.where(normalized(x) >= 0, 1.0, -1.0).double()
    weight = conv.weight
    if binarize == "both":
        codes, scale = CentredSign().quantize(weight)
        weight = codes * scale
    padding = dilation * (kernel // 2)
    y = functional.conv2d(code, weight, None, stride, padding, dilation, groups=6)
    y = functional.prelu(y, slope)
    order = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    expected = y[:, order] + (x if stride == 1 else 0)
    torch.testing.assert_close(module(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_darts_convolution_is_the_written_formula(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, 8)
    separable, dilated = (DARTS.primitive(name, 4, stride) for name in ("sep_conv_3x3", "dil_conv_5x5"))
    deep, point, deep2, point2 = (p for p in separable.parameters() if p.dim() == 4)
    y = functional.conv2d(functional.conv2d(x.relu(), deep, None, stride, 1, 1, 4), point)
    y = functional.conv2d(functional.conv2d(normalized(y).relu(), deep2, None, 1, 1, 1, 4), point2)
    torch.testing.assert_close(separable(x), normalized(y))
    deep, point = (p for p in dilated.parameters() if p.dim() == 4)
    y = functional.conv2d(functional.conv2d(x.relu(), deep, None, stride, 4, 2, 4), point)
    torch.testing.assert_close(dilated(x), normalized(y))


@BOTH
@pytest.mark.parametrize("stride", [1, 2])
def test_the_asymmetric_convolution_is_full(space: Space, stride: int) -> None:
    weights = [p for p in space.primitive("conv_7x1_1x7", 12, stride).parameters() if p.dim() == 4]
    assert [tuple(w.shape) for w in weights] == [(12, 12, 1, 7), (12, 12, 7, 1)]


@ALL
@pytest.mark.parametrize("search", [False, True], ids=["network", "search"])
def test_preprocess(space: Space, search: bool) -> None:
    x = torch.randn(2, 24, 7, 7)
    assert space.preprocess(24, 12, halve=False, search=search)(x).shape == (2, 12, 7, 7)
    assert space.preprocess(24, 12, halve=True, search=search)(x).shape == (2, 12, 4, 4)


def test_bats_preprocess_adds_its_input_where_the_width_stays() -> None:
    x = torch.randn(2, 12, 5, 5)
    module = BATS.preprocess(12, 12, halve=False)
    next(m for m in module.modules() if isinstance(m, QuantConv2d)).weight.data.zero_()
    assert torch.equal(module(x), x)
    assert count(BATS.preprocess(24, 12, halve=False)) == 24 * 12 + 48 + 12


def test_darts_stays_real() -> None:
    for binarize in ("activations", "both"):
        with pytest.raises(UserError, match=f"binarize: '{binarize}' is not possible in the darts space"):
            Darts(Binarization(binarize))
    modules = [DARTS.primitive(name, 4, 2) for name in DARTS.primitives]
    assert not any(isinstance(m, QuantConv2d) for module in modules for m in module.modules())


@pytest.mark.parametrize("channels", [0, 1, 15, -2])
def test_darts_wants_even_widths(channels: int) -> None:
    with pytest.raises(UserError, match=f"channels: {channels} is not possible"):
        DARTS.check(channels)


@pytest.mark.parametrize("channels, groups", [(16, 12), (0, 12), (6, 6), (10, 5), (30, 12), (-12, 12)])
def test_bats_wants_multiples_of_its_groups(channels: int, groups: int) -> None:
    with pytest.raises(UserError, match=rf"channels: {channels} .*groups \({groups}\)"):
        Bats(Binarization(), groups).check(channels)


@pytest.mark.parametrize("channels, groups", [(12, 12), (36, 12), (16, 4), (8, 1)])
def test_bats_takes_multiples(channels: int, groups: int) -> None:
    Bats(Binarization(), groups).check(channels)


def test_other_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="groups: 0"):
        Bats(Binarization(), 0)
    with pytest.raises(UserError, match="space: 'cube' is unknown; choose one of bats, darts, nasnet"):
        build_space("cube", Binarization())
    with pytest.raises(UserError, match=r"channels: 84 .*ImageNet stem"):
        BATS.imagenet_stem(84)
    for space in (DARTS, BATS, NASNET):
        with pytest.raises(UserError, match="primitive: 'sep_conv_9x9' is unknown"):
            space.primitive("sep_conv_9x9", 12, 1)


def test_build_space() -> None:
    assert isinstance(build_space("darts", Binarization("none")), Darts)
    bats = build_space("bats", Binarization("both"), groups=4)
    assert isinstance(bats, Bats)
    assert bats.groups == 4
    assert {name: cls.name for name, cls in SPACES.items()} == {name: name for name in ("bats", "darts", "nasnet")}
    assert isinstance(build_space("nasnet", Binarization("none")), Nasnet)


@ALL
def test_stems_and_auxiliary_head_are_real(space: Space) -> None:
    parts = [space.stem(36), *space.imagenet_stem(80), space.auxiliary(36, 10, pool_stride=3)]
    modules = [m for part in parts for m in part.modules()]
    assert not any(isinstance(m, QuantConv2d) for m in modules)
    assert sum(isinstance(m, nn.Conv2d) for m in modules) == 1 + 3 + 2


@ALL
def test_stems_keep_halve_quarter_and_eighth_the_resolution(space: Space) -> None:
    assert space.stem(36)(torch.randn(2, 3, 9, 9)).shape == (2, 36, 9, 9)
    assert space.stem(36, halve=True)(torch.randn(2, 3, 12, 8)).shape == (2, 36, 6, 4)
    first, second = space.imagenet_stem(40)
    x = first(torch.randn(2, 3, 64, 64))
    assert (x.shape, second(x).shape) == ((2, 40, 16, 16), (2, 40, 8, 8))


@ALL
@pytest.mark.parametrize("pool_stride, size", [(3, 8), (2, 7), (3, 12)])
def test_auxiliary_head(space: Space, pool_stride: int, size: int) -> None:
    assert space.auxiliary(24, 10, pool_stride=pool_stride)(torch.randn(2, 24, size, size)).shape == (2, 10)


def test_every_primitive_has_a_space() -> None:
    assert {name for space in SPACES.values() for name in space.primitives} == set(PRIMITIVES)
    for space in SPACES.values():
        assert set(space.rules.candidates) <= set(space.primitives)


@pytest.mark.parametrize(
    "name, stride, params",
    [("conv_1x1", 1, 36 * 36 + 72), ("conv_3x3", 2, 9 * 36 * 36 + 72), ("dil_conv_3x3", 1, 9 * 36 * 36 + 72),
     ("conv_1x3_3x1", 2, 6 * 36 * 36 + 144), ("conv_7x1_1x7", 1, 14 * 36 * 36 + 144), ("sep_conv_3x3", 1, 3384),
     ("sep_conv_5x5", 1, 4536), ("sep_conv_7x7", 1, 6264), ("skip_connect", 2, 36 * 36 + 72), ("skip_connect", 1, 0),
     ("max_pool_5x5", 2, 0), ("max_pool_7x7", 1, 0), ("avg_pool_3x3", 1, 0)],
)  # fmt: skip
def test_parameters_of_nasnet(name: str, stride: int, params: int) -> None:
    assert count(NASNET.primitive(name, 36, stride)) == params


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pair_of_nasnet_is_two_convolutions_with_their_own_relu_and_norm(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, 8)
    pair = NASNET.primitive("conv_1x3_3x1", 4, stride)
    row, column = (p for p in pair.parameters() if p.dim() == 4)
    y = normalized(functional.conv2d(x.relu(), row, None, (1, stride), (0, 1)))
    y = normalized(functional.conv2d(y.relu(), column, None, (stride, 1), (1, 0)))
    torch.testing.assert_close(pair(x), y)
    dilated = NASNET.primitive("dil_conv_3x3", 4, stride)
    (weight,) = (p for p in dilated.parameters() if p.dim() == 4)
    torch.testing.assert_close(dilated(x), normalized(functional.conv2d(x.relu(), weight, None, stride, 2, 2)))


@pytest.mark.parametrize("side", [5, 7])
def test_large_pools_look_as_far_as_they_say(side: int) -> None:
    x = torch.randn(1, 4, 9, 9)
    y = NASNET.primitive(f"max_pool_{side}x{side}", 4, 1)(x)
    assert torch.equal(y[..., 4, 4], x[..., 4 - side // 2 : 5 + side // 2, 4 - side // 2 : 5 + side // 2].amax((2, 3)))


def test_nasnet_has_no_none_and_stays_real() -> None:
    assert len(NASNET.rules.candidates) == 13
    with pytest.raises(UserError, match="primitive: 'none' is unknown in the nasnet space"):
        NASNET.primitive("none", 4, 1)
    with pytest.raises(UserError, match="binarize: 'both' is not possible in the nasnet space"):
        Nasnet(Binarization("both"))
    with pytest.raises(UserError, match="channels: 7 is not possible in this space"):
        NASNET.check(7)


@BOTH
@pytest.mark.parametrize("name", ["conv_1x1", "conv_3x3", "conv_1x3_3x1", "max_pool_5x5", "max_pool_7x7"])
def test_older_spaces_refuse_what_only_nasnet_has(space: Space, name: str) -> None:
    with pytest.raises(UserError, match=f"primitive: '{name}' is unknown in the {space.name} space; it has avg_pool"):
        space.primitive(name, 12, 1)


def test_genotypes_are_checked_against_the_space() -> None:
    for name in PUBLISHED:
        BATS.check_genotype(published(name))
        DARTS.check_genotype(published(name))
    NASNET.check_genotype(published("amoebanet"))
    with pytest.raises(UserError, match="primitive: 'dil_conv_5x5' is unknown in the nasnet space"):
        NASNET.check_genotype(published("pdarts"))


def test_rules_name_sources_and_output() -> None:
    chain = [(Edge("conv_1x1", 0), Edge("conv_1x1", 1)), (Edge("conv_1x1", 0), Edge("conv_1x1", 2))]
    assert Nasnet.rules.cell(chain).concat == (3,)
    assert Darts.rules.cell(chain).concat == (2, 3)
    assert Nasnet.rules.cell(chain[:1] * 5).concat == (2, 3, 4, 5, 6)
    assert Nasnet.rules.sources(4, kept=1, old=2) == [0, 1, 3]
    assert Darts.rules.sources(4, kept=1, old=2) == [0, 3]
    assert Darts.rules.sources(2, kept=1, old=0) == []
    assert "none" not in Darts.rules.operations


def test_bats_shuffles_after_every_cell_convolution() -> None:
    for name in ("sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7"):
        shuffles = [m for m in BATS.primitive(name, 12, 1).modules() if isinstance(m, ChannelShuffle)]
        assert [m.groups for m in shuffles] == [4]
