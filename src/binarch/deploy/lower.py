"""Trained modules to instructions: one function per kind of module, found by type.

``lower(module, builder, x)`` appends what ``module`` does to value ``x`` and returns the value of its output. A new
kind of module joins with ``@register``; its function may call ``lower`` on its parts.
"""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import nn

from binarch.deploy.builder import Builder
from binarch.deploy.quantized import lower_quantized
from binarch.deploy.shapes import array, size, window
from binarch.deploy.trace import lower_traced
from binarch.errors import UserError
from binarch.models import CellNetwork
from binarch.models.cell_network import CellModule
from binarch.nn import (
    Chain,
    ChannelBias,
    ChannelShuffle,
    DropPath,
    ExactConv2d,
    PReLU,
    QuantConv2d,
    QuantLinear,
    ShiftBatchNorm,
    ShiftedPair,
    Zero,
    evaluating,
)
from binarch.runtime.ops import (
    LARGEST_REAL,
    Add,
    Affine,
    Clip,
    Concat,
    Conv,
    Flatten,
    Image,
    Mean,
    Pool,
    PRelu,
    Shuffle,
    Window,
    Zeros,
)  # fmt: skip
from binarch.runtime.program import Program
from binarch.spaces.bats import Residual
from binarch.spaces.parts import SpatialMean


def pack_network(
    network: nn.Module,
    *,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    card: Mapping[str, Any],
) -> Program:
    """The program of a network in evaluation mode, for images of ``size`` (height, width), normalised by mean and std.

    ``card`` must hold ``classes``, the names of the logits; what else it holds is for people.
    """
    return build(network, size=size, mean=mean, std=std).program(card)


def build(network: nn.Module, *, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Builder:
    """As :func:`pack_network`, before what nothing needs is left out."""
    builder = Builder()
    channels = len(mean)
    offsets = builder.reals(np.array(mean)), builder.reals(np.array(std))
    x = builder.add(Image(channels, *size, *offsets))
    with evaluating(network), torch.no_grad():
        lower(network, builder, x)
    return builder


def lower(module: nn.Module, builder: Builder, x: int) -> int:
    """Append ``module``; return the value of its output.

    The function of the nearest known base class does it, unless the module computes something else than that class.
    All other modules are traced, and the layers in them lowered one by one (see ``trace``).
    """
    if _known(module) is not None:
        with builder.owned_by(module):
            return _lower(module, builder, x)
    return lower_traced(module, builder, x, lower=lower, leaf=lambda part: _known(part) not in (None, nn.Sequential))


def _known(module: nn.Module) -> type | None:
    """The class whose function lowers ``module``."""
    kind = type(module)
    known = next(base for base in kind.__mro__ if base in _lower.registry)
    return None if known is object or kind.forward is not known.forward else known  # type: ignore[attr-defined]


@singledispatch
def _lower(module: nn.Module, builder: Builder, x: int) -> int:
    raise NotImplementedError(type(module).__name__)


#: Decorator for a function of (module, builder, value) that lowers one more kind of module, found by its annotation.
register = _lower.register


@register(nn.Sequential)
@register(Chain)
def _(module: nn.Sequential, builder: Builder, x: int) -> int:
    for part in module:
        x = lower(part, builder, x)
    return x


@register(nn.Identity)
@register(nn.Dropout)
@register(nn.Dropout2d)
@register(DropPath)
def _(module: nn.Module, builder: Builder, x: int) -> int:
    return x


@register
def _(module: Residual, builder: Builder, x: int) -> int:
    return builder.add(Add(x, lower(module.body, builder, x)))


@register(nn.BatchNorm2d)
@register(nn.BatchNorm1d)
def _(module: nn.BatchNorm2d, builder: Builder, x: int) -> int:
    """Scale and shift as PyTorch's kernel computes them, rounding included."""
    if module.running_mean is None or module.running_var is None:
        raise UserError("BatchNorm2d without running statistics cannot be packed; train with track_running_stats=True")
    inverse = np.float32(1) / np.sqrt(array(module.running_var) + np.float32(module.eps))
    weight = array(module.weight) if module.weight is not None else np.ones_like(inverse)
    bias = array(module.bias) if module.bias is not None else np.zeros_like(inverse)
    scale = inverse * weight
    shift = (bias.astype(np.float64) - array(module.running_mean).astype(np.float64) * scale).astype(np.float32)
    return builder.add(Affine(x, builder.reals(scale), builder.reals(shift)))


@register
def _(module: ShiftBatchNorm, builder: Builder, x: int) -> int:
    scale, shift = module.affine()
    return builder.add(Affine(x, builder.reals(array(scale)), builder.reals(array(shift))))


@register(PReLU)
@register(nn.PReLU)
def _(module: nn.PReLU, builder: Builder, x: int) -> int:
    slope = np.broadcast_to(array(module.weight), builder.shapes[x].channels)
    return builder.add(PRelu(x, builder.reals(slope)))


@register
def _(module: nn.ReLU, builder: Builder, x: int) -> int:
    return builder.add(Clip(x, 0.0, LARGEST_REAL))


@register
def _(module: nn.Hardtanh, builder: Builder, x: int) -> int:
    low, high = (float(np.clip(limit, -LARGEST_REAL, LARGEST_REAL)) for limit in (module.min_val, module.max_val))
    return builder.add(Clip(x, low, high))


@register
def _(module: ChannelBias, builder: Builder, x: int) -> int:
    bias = array(module.bias)
    return builder.add(Affine(x, builder.reals(np.ones_like(bias)), builder.reals(bias)))


@register
def _(module: ChannelShuffle, builder: Builder, x: int) -> int:
    return builder.add(Shuffle(x, module.groups))


@register
def _(module: Zero, builder: Builder, x: int) -> int:
    shape, stride = builder.shapes[x], module.stride
    return builder.add(Zeros(shape.channels, -(-shape.height // stride), -(-shape.width // stride)))


@register
def _(module: nn.MaxPool2d, builder: Builder, x: int) -> int:
    if module.dilation not in (1, (1, 1)):
        raise UserError(f"MaxPool2d with dilation {module.dilation} cannot be packed; use dilation 1")
    stride = module.stride if module.stride is not None else module.kernel_size
    seen = window(module.kernel_size, stride, module.padding, module.dilation, size(builder, x), ceil=module.ceil_mode)
    return builder.add(Pool(x, "max", seen))


@register
def _(module: nn.AvgPool2d, builder: Builder, x: int) -> int:
    kind = "mean_padded" if module.count_include_pad else "mean"
    if module.divisor_override is not None or (module.ceil_mode and module.count_include_pad):
        raise UserError(
            "AvgPool2d with divisor_override, or ceil_mode counting padding, cannot be packed; leave them out"
        )
    seen = window(module.kernel_size, module.stride, module.padding, 1, size(builder, x), ceil=module.ceil_mode)
    return builder.add(Pool(x, kind, seen))


@register
def _(module: nn.AdaptiveAvgPool2d, builder: Builder, x: int) -> int:
    if module.output_size not in (1, (1, 1)):
        raise UserError(f"AdaptiveAvgPool2d({module.output_size}) cannot be packed; use output size 1, or AvgPool2d")
    return builder.add(Mean(x))


@register
def _(module: SpatialMean, builder: Builder, x: int) -> int:
    return builder.add(Mean(x))


@register
def _(module: nn.Flatten, builder: Builder, x: int) -> int:
    if module.start_dim != 1 or module.end_dim != -1:
        raise UserError("Flatten of some dimensions cannot be packed; use nn.Flatten()")
    return builder.add(Flatten(x))


@register
def _(module: nn.Linear, builder: Builder, x: int) -> int:
    if size(builder, x) != (1, 1):
        raise UserError(f"Linear on a map of {size(builder, x)} cannot be packed; put nn.Flatten or a mean before it")
    one = window(1, 1, 0, 1, (1, 1))
    bias = builder.reals(array(module.bias)) if module.bias is not None else -1
    return builder.add(Conv(x, one, module.out_features, 1, builder.reals(array(module.weight)), 32, 0, bias))


@register(ExactConv2d)
@register(nn.Conv2d)
def _(module: nn.Conv2d, builder: Builder, x: int) -> int:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise UserError(
            f"Conv2d with padding {module.padding!r} ({module.padding_mode}) cannot be packed; pad with zeros"
        )
    seen = window(module.kernel_size, module.stride, module.padding, module.dilation, size(builder, x))
    bias = builder.reals(array(module.bias)) if module.bias is not None else -1
    weight = builder.reals(array(module.weight))
    return builder.add(Conv(x, seen, module.out_channels, module.groups, weight, 32, 0, bias))


@register
def _(module: QuantConv2d, builder: Builder, x: int) -> int:
    seen = window(module.filter_shape[2:], module.stride, module.padding, module.dilation, size(builder, x))
    return lower_quantized(module, builder, x, seen)


@register
def _(module: QuantLinear, builder: Builder, x: int) -> int:
    if size(builder, x) != (1, 1):
        raise UserError(f"a linear layer on a map of {size(builder, x)} cannot be packed; put nn.Flatten before it")
    return lower_quantized(module, builder, x, window(1, 1, 0, 1, (1, 1)))


@register
def _(module: ShiftedPair, builder: Builder, x: int) -> int:
    """The second convolution sees the map from its second row and column on."""
    height, width = size(builder, x)
    half = (-(-height // 2), -(-width // 2))
    halves = []
    for origin, part in (((0, 0), module.first), ((1, 1), module.second)):
        seen = Window((1, 1), (2, 2), (1, 1), origin, half)
        if isinstance(part, QuantConv2d):
            halves.append(lower_quantized(part, builder, x, seen))
        elif isinstance(part, nn.Conv2d) and part.bias is None:
            weight = builder.reals(array(part.weight))
            halves.append(builder.add(Conv(x, seen, part.out_channels, part.groups, weight, 32, 0, -1)))
        else:
            raise UserError(f"ShiftedPair of {type(part).__name__} cannot be packed; use bias-free convolutions")
    return builder.add(Concat(tuple(halves)))


@register
def _(module: CellNetwork, builder: Builder, x: int) -> int:
    s0 = lower(module.stem0, builder, x)
    s1 = s0 if module.stem1 is None else lower(module.stem1, builder, s0)
    for cell in module.cells:
        assert isinstance(cell, CellModule)
        s0, s1 = s1, _cell(cell, builder, s0, s1)
    return lower(module.classifier, builder, builder.add(Mean(s1)))


def _cell(cell: CellModule, builder: Builder, s0: int, s1: int) -> int:
    states = [lower(cell.preprocess0, builder, s0), lower(cell.preprocess1, builder, s1)]
    for i in range(0, len(cell.sources), 2):
        first, second = (lower(cell.operations[e], builder, states[cell.sources[e]]) for e in (i, i + 1))
        states.append(builder.add(Add(first, second)))
    return builder.add(Concat(tuple(states[state] for state in cell.concat)))
