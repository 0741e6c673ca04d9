"""The search space of BATS (Bulat et al., ECCV 2020): grouped convolutions made for binary networks.

A binary depthwise filter of size k x k has only 2^(k*k) states and a tiny range, and a binary 1 x 1 convolution is
a bottleneck; so both halves of a separable convolution are replaced by one grouped convolution followed by a
channel shuffle (supplement, Fig. 2). The primitives keep DARTS' names, so that a genotype runs in either space:
``sep_conv`` here is *not* separable.
"""

from typing import ClassVar, final

from torch import Tensor, nn

from binarch.errors import UserError
from binarch.nn import (
    Binarization,
    Chain,
    ChannelShuffle,
    ExactConv2d,
    PReLU,
    QuantConv2d,
    ShiftedPair,
    Zero,
    batch_norm,
)
from binarch.spaces.base import Space
from binarch.spaces.parts import SpatialMean, pool

#: Groups of the channel shuffle, fixed in the authors' public layers.
SHUFFLE_GROUPS = 4


@final
class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Add the input to the body's output."""
        return x + self.body(x)


@final
class Bats(Space):
    """Primitives of BATS; g is the number of convolution groups, C the width.

    ===================  ==========================================================================
    ``sep_conv_kxk``     x + shuffle(PReLU(conv k x k in g groups(BN(x)))); with stride 2 without "x +"
    ``dil_conv_kxk``     the same with dilation 2
    ``conv_7x1_1x7``     x + shuffle(BN, 1 x 7, PReLU, BN, 7 x 1, PReLU), ungrouped
    ``skip_connect``     identity; with stride 2: BN, two shifted 1 x 1 paths, PReLU
    ``*_pool_3x3``       pools; the average leaves padding out
    ``none``             zeros
    ===================  ==========================================================================

    Every convolution binarizes its own input, behind the batch norm. Stems, auxiliary head and classifier stay
    real (the public code binarizes stem convolutions that follow a ReLU, which leaves no information).
    """

    name: ClassVar[str] = "bats"
    description: ClassVar[str] = "grouped convolutions with shuffle and inner residual, binary or real (BATS, 2020)"

    def __init__(self, binarization: Binarization, groups: int = 12) -> None:
        if groups < 1:
            raise UserError(f"groups: {groups} is not possible; use 1 or more")
        self.binarization = binarization
        self.groups = groups

    def check(self, channels: int) -> None:
        """Widths must divide by the convolution groups and by the 4 groups of the shuffle."""
        if channels < 1 or channels % self.groups or channels % SHUFFLE_GROUPS:
            raise UserError(
                f"channels: {channels} does not divide by groups ({self.groups}) and by {SHUFFLE_GROUPS} (the channel "
                "shuffle); choose --channels as a multiple of both, or other --groups"
            )

    def part(self, k: int) -> Space:
        """Groups as wide as this one's, so fewer of them: otherwise filters would see fewer channels each."""
        if self.groups % k:
            raise UserError(f"groups: {self.groups} cannot be divided by {k}; choose --groups as a multiple of it")
        return Bats(self.binarization, self.groups // k)

    def primitive(self, name: str, channels: int, stride: int, *, search: bool = False) -> nn.Module:
        """Build the primitive called ``name``."""
        self.require(name)
        kind, _, size = name.rpartition("_")
        match kind:
            case "sep_conv" | "dil_conv":
                dilation = 2 if kind == "dil_conv" else 1
                return self._grouped(channels, int(size[0]), stride, dilation, search)
            case "max_pool" | "avg_pool":
                return pool(name, channels, stride, search=search)
            case "conv_7x1":
                return self._asymmetric(channels, stride, search)
            case _ if name == "skip_connect":
                return nn.Identity() if stride == 1 else self._factorized_reduce(channels, channels, search)
            case _:
                return Zero(stride)

    def preprocess(self, inputs: int, channels: int, *, halve: bool, search: bool = False) -> nn.Module:
        """BN, 1 x 1 convolution, PReLU, plus the input where the width stays; the shifted pair where halved."""
        if halve:
            return self._factorized_reduce(inputs, channels, search)
        body = Chain(batch_norm(inputs, search=search), self.binarization.conv(inputs, channels, 1), PReLU(channels))
        return Residual(body) if inputs == channels else body

    def stem(self, channels: int, *, search: bool = False, halve: bool = False) -> nn.Module:
        """3 x 3 convolution (4 x 4 with stride 2 to halve), BN, ReLU."""
        norm = nn.BatchNorm2d(channels, track_running_stats=not search)
        convolution = ExactConv2d(3, channels, 4 if halve else 3, 2 if halve else 1, padding=1, bias=False)
        return nn.Sequential(convolution, norm, nn.ReLU())

    def imagenet_stem(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """As in DARTS, with C // 20 groups in the second and third convolution."""
        half, groups = channels // 2, max(channels // 20, 1)
        if half % groups or channels % groups:
            raise UserError(f"channels: {channels} does not fit the ImageNet stem; use a multiple of 40")
        return (
            nn.Sequential(
                ExactConv2d(3, half, 3, 2, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                ExactConv2d(half, channels, 3, 2, 1, groups=groups, bias=False),
                nn.BatchNorm2d(channels),
            ),
            nn.Sequential(
                nn.ReLU(),
                ExactConv2d(channels, channels, 3, 2, 1, groups=groups, bias=False),
                nn.BatchNorm2d(channels),
            ),
        )

    def auxiliary(self, inputs: int, classes: int, *, pool_stride: int) -> nn.Module:
        """Pool, BN, 1 x 1 to 128, PReLU, BN, 2 x 2 to 768, PReLU, linear."""
        return nn.Sequential(
            nn.AvgPool2d(5, pool_stride, count_include_pad=False),
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, 128, 1, bias=False),
            PReLU(128),
            nn.BatchNorm2d(128),
            nn.Conv2d(128, 768, 2, bias=False),
            PReLU(768),
            SpatialMean(),
            nn.Linear(768, classes),
        )

    def _grouped(self, channels: int, kernel: int, stride: int, dilation: int, search: bool) -> nn.Module:
        conv = self.binarization.conv(
            channels,
            channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=self.groups,
        )
        body = Chain(batch_norm(channels, search=search), conv, PReLU(channels), ChannelShuffle(SHUFFLE_GROUPS))
        return Residual(body) if stride == 1 else body

    def _asymmetric(self, channels: int, stride: int, search: bool) -> nn.Module:
        def conv(kernel: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int]) -> QuantConv2d:
            return self.binarization.conv(channels, channels, kernel, stride=strides, padding=padding)

        body = Chain(
            batch_norm(channels, search=search),
            conv((1, 7), (1, stride), (0, 3)),
            PReLU(channels),
            batch_norm(channels, search=search),
            conv((7, 1), (stride, 1), (3, 0)),
            PReLU(channels),
            ChannelShuffle(SHUFFLE_GROUPS),
        )
        return Residual(body) if stride == 1 else body

    def _factorized_reduce(self, inputs: int, channels: int, search: bool) -> nn.Module:
        half = channels // 2
        return Chain(
            batch_norm(inputs, search=search),
            ShiftedPair(
                self.binarization.conv(inputs, half, 1, stride=2),
                self.binarization.conv(inputs, half, 1, stride=2),
            ),
            PReLU(channels),
        )
