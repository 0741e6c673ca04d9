"""The search space of DARTS (Liu et al., ICLR 2019): separable and dilated separable convolutions, real-valued."""

from typing import ClassVar, final

from torch import nn

from binarch.errors import UserError
from binarch.nn import Binarization, Zero, batch_norm
from binarch.spaces.base import Space
from binarch.spaces.parts import SpatialMean, factorized_reduce, pool, relu_conv, separable


@final
class Darts(Space):
    """Primitives of DARTS: ReLU, depthwise convolution, pointwise convolution, batch norm.

    ===================  ==========================================================================
    ``sep_conv_kxk``     twice: ReLU, depthwise k x k, 1 x 1, BN; the first depthwise carries the stride
    ``dil_conv_kxk``     once: ReLU, depthwise k x k with dilation 2, 1 x 1, BN
    ``conv_7x1_1x7``     ReLU, 1 x 7, 7 x 1, BN; full convolutions
    ``skip_connect``     identity; with stride 2: ReLU, two shifted 1 x 1 paths, BN
    ``*_pool_3x3``       pools; the average leaves padding out
    ``none``             zeros
    ===================  ==========================================================================
    """

    name: ClassVar[str] = "darts"
    description: ClassVar[str] = "separable and dilated separable convolutions, real-valued (Liu et al., 2019)"

    def __init__(self, binarization: Binarization) -> None:
        if binarization.binarize != "none":
            raise UserError(
                f"binarize: {binarization.binarize!r} is not possible in the darts space (a sign after ReLU keeps "
                "nothing); use --binarize none, or --space bats"
            )
        self.binarization = binarization

    def check(self, channels: int) -> None:
        """Widths must be even, as the shifted paths take half each.

        And 4 or more: with 2, PyTorch's strided 1 x 1 convolution of channels-last maps writes out of bounds on CPUs
        (seen in torch 2.13).
        """
        if channels < 4 or channels % 2:
            raise UserError(f"channels: {channels} is not possible in this space; use an even number from 4 on")

    def part(self, k: int) -> Space:
        """The space itself: its operations are alike at every width."""
        return self

    def primitive(self, name: str, channels: int, stride: int, *, search: bool = False) -> nn.Module:
        """Build the primitive called ``name``."""
        self.require(name)
        kind, _, size = name.rpartition("_")
        match kind:
            case "sep_conv":
                first = separable(channels, channels, int(size[0]), stride, search=search)
                return nn.Sequential(*first, *separable(channels, channels, int(size[0]), 1, search=search))
            case "dil_conv":
                return nn.Sequential(*separable(channels, channels, int(size[0]), stride, dilation=2, search=search))
            case "max_pool" | "avg_pool":
                return pool(name, channels, stride, search=search)
            case "conv_7x1":
                return nn.Sequential(
                    nn.ReLU(),
                    nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
                    nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
                    batch_norm(channels, search=search),
                )
            case _ if name == "skip_connect":
                return nn.Identity() if stride == 1 else factorized_reduce(channels, channels, search=search)
            case _:
                return Zero(stride)

    def preprocess(self, inputs: int, channels: int, *, halve: bool, search: bool = False) -> nn.Module:
        """ReLU, 1 x 1 convolution, BN; the shifted pair where the input must be halved."""
        if halve:
            return factorized_reduce(inputs, channels, search=search)
        return nn.Sequential(*relu_conv(inputs, channels, (1, 1), search=search))

    def stem(self, channels: int, *, search: bool = False, halve: bool = False) -> nn.Module:
        """3 x 3 convolution (4 x 4 with stride 2 to halve) and BN."""
        norm = nn.BatchNorm2d(channels, track_running_stats=not search)
        convolution = nn.Conv2d(3, channels, 4 if halve else 3, 2 if halve else 1, padding=1, bias=False)
        return nn.Sequential(convolution, norm)

    def imagenet_stem(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """Three 3 x 3 convolutions with stride 2; the first state comes after two of them."""
        half = channels // 2
        return (
            nn.Sequential(
                nn.Conv2d(3, half, 3, 2, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                nn.Conv2d(half, channels, 3, 2, 1, bias=False),
                nn.BatchNorm2d(channels),
            ),
            nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels)),
        )

    def auxiliary(self, inputs: int, classes: int, *, pool_stride: int) -> nn.Module:
        """ReLU, pool, 1 x 1 to 128, 2 x 2 to 768, linear."""
        return nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, pool_stride, count_include_pad=False),
            nn.Conv2d(inputs, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            SpatialMean(),
            nn.Linear(768, classes),
        )
