"""Quantized layers to instructions."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from binarch.deploy.builder import Builder
from binarch.deploy.shapes import array, size, window
from binarch.errors import UserError
from binarch.nn import QuantConv2d, QuantLayer, stairs, uneven
from binarch.quantizers import Interaction, StepQuantizer, rounds
from binarch.runtime.ops import Add, Affine, BitConv, Conv, Window


def lower_quantized(module: QuantLayer, builder: Builder, x: int, seen: Window) -> int:
    """A product of quantized operands: bits where both sides have few, real numbers where not; then the bias."""
    y = _product(module, builder, x, seen)
    if module.bias is None:
        return y
    bias = array(module.bias)
    return builder.add(Affine(y, builder.reals(np.ones_like(bias)), builder.reals(bias)))


def _product(module: QuantLayer, builder: Builder, x: int, seen: Window) -> int:
    codes, scale = module.weight_quantizer.quantize(module.weight)
    factor = scale.flatten() if module.scale is None else scale.flatten() * module.scale
    out, groups = module.filter_shape[0], module.groups if isinstance(module, QuantConv2d) else 1
    bits = module.weight_quantizer.bits, module.activation_quantizer.bits
    scales = factor.expand(out)
    if bits == (32, 32):
        weight = builder.reals(array(codes) * array(scales).reshape(-1, *[1] * (codes.dim() - 1)))
        return builder.add(Conv(x, seen, out, groups, weight, 32, 0, -1))
    if bits[0] > 2 or (bits[0] == 2 and bits[1] < 32):
        raise UserError(
            f"a layer of {bits[1]}-bit activations with {bits[0]}-bit weights cannot be packed; weights may have 1 "
            "bit, or 2 beside real activations"
        )
    if module.activation_quantizer.bits == 32:
        return _coded_weights(module, builder, Conv(x, seen, out, groups, 0, bits[0], 0, -1), array(codes), scales)
    if not isinstance(module.activation_quantizer, StepQuantizer):
        kind = type(module.activation_quantizer).__name__
        raise UserError(f"activations of {kind} cannot be packed; a quantizer with steps() is needed")
    weight = builder.bits(array(codes) > 0)
    if uneven(module.activation_quantizer):
        return _stair_by_stair(module, builder, BitConv(x, seen, out, groups, weight, (-1, 1), (0, 1), 0), scales)
    thresholds, levels, step = module.activation_quantizer.steps()
    values = tuple(int(level) for level in levels)
    scales = scales * step.to(scales)
    signs = builder.quantize(x, array(thresholds))
    if module.correction is None:
        return builder.add(BitConv(signs, seen, out, groups, weight, (-1, 1), values, builder.reals(array(scales))))
    if not isinstance(module.correction, Interaction):
        raise UserError(f"a layer with {type(module.correction).__name__} cannot be packed; train without it")
    one = builder.reals(np.ones(out))
    counts = builder.add(BitConv(signs, seen, out, groups, weight, (-1, 1), values, one))
    return _times(builder, _interaction(module.correction, builder, counts), array(scales))


def _times(builder: Builder, x: int, scales: np.ndarray) -> int:
    if (scales == 1).all():
        return x
    return builder.add(Affine(x, builder.reals(scales), builder.reals(np.zeros(len(scales)))))


def _coded_weights(module: QuantLayer, builder: Builder, conv: Conv, codes: np.ndarray, scales: Tensor) -> int:
    """Weights of few values on real inputs."""
    levels, index = np.unique(codes, return_inverse=True)
    if len(levels) > 1 << conv.weight_bits:
        raise UserError(
            f"weights of {len(levels)} values in one layer cannot be packed; {1 << conv.weight_bits} at most"
        )
    levels = np.pad(levels, (0, (1 << conv.weight_bits) - len(levels)))
    weight = builder.bits(index, conv.weight_bits)
    return _times(builder, builder.add(replace(conv, weight=weight, levels=builder.reals(levels))), array(scales))


def _stair_by_stair(module: QuantLayer, builder: Builder, conv: BitConv, scales: Tensor) -> int:
    """As the layer does it in evaluation: one sum of bits per stair, added in order."""
    assert isinstance(module.activation_quantizer, StepQuantizer)
    total = -1
    for stair in stairs(module.activation_quantizer):
        codes = builder.quantize(conv.x, array(stair.threshold).reshape(1))
        scale = builder.reals(array(scales * stair.rise.to(scales)))
        part = builder.add(replace(conv, x=codes, scale=scale))
        total = part if total < 0 else builder.add(Add(total, part))
    return total


def _interaction(correction: Interaction, builder: Builder, x: int) -> int:
    """Each round of edges is a 1 x 1 convolution of what the teachers say, added to the counts."""
    channels = builder.shapes[x].channels
    at = np.array([np.nextafter(np.float32(-correction.threshold), np.float32(np.inf)), correction.threshold])
    for edges in rounds(correction.edges):
        says = np.zeros((channels, channels), np.int64)
        for edge in edges:
            says[edge.student, edge.teacher] += edge.sign
        if np.abs(says).max() > 1:
            raise UserError("a pair of channels with several edges cannot be packed; one edge from one to another")
        weight = builder.bits(says + 1, 2)
        step = builder.reals(np.full(channels, correction.step))
        codes = builder.quantize(x, at.astype(np.float32))
        moved = BitConv(
            codes, window(1, 1, 0, 1, size(builder, x)), channels, 1, weight, (-1, 0, 1, 0), (-1, 0, 1), step
        )
        x = builder.add(Add(x, builder.add(moved)))
    return x
