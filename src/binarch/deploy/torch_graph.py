"""A packed program as a float torch network: what the bits stand for, in ordinary layers."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from binarch.deploy.floats import Borders, Floats, borders
from binarch.runtime.ops import (
    LARGEST_REAL,
    Add,
    Affine,
    BitConv,
    Clip,
    Concat,
    Conv,
    Flatten,
    Image,
    Mean,
    Op,
    Pool,
    PRelu,
    Quantize,
    Shuffle,
    Window,
    Zeros,
)  # fmt: skip
from binarch.runtime.program import Program


def torch_graph(program: Program) -> nn.Module:
    """The float network of ``program``: float32 images (N, channels, height, width) in 0..1 to logits (N, classes).

    One line of ``forward`` per instruction (``print(network.code)`` shows them). Weights are scale times the integers,
    comparisons give the numbers that the codes stand for. Sums are rounded in another order than the program's, so
    that now and then a number near a threshold lands on its other side.
    """
    return _Writer(program).module.eval()


@final
class _Writer:
    """Writes the graph, instruction by instruction."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.floats = Floats(program)
        self.root, self.graph = nn.Module(), fx.Graph()
        self.images = self.graph.placeholder("images")
        self.values: list[fx.Node | None] = []
        self._quantized: dict[tuple[int, tuple[int, ...]], fx.Node] = {}
        for index, op in enumerate(program.ops):
            self.values.append(self._value(index, op))
        self.graph.output(self._call(torch.flatten, self._at(-1), 1))
        self.module = fx.GraphModule(self.root, self.graph)

    def _at(self, x: int) -> fx.Node:
        value = self.values[x]
        assert value is not None
        return value

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return self.graph.call_function(function, args, kwargs)

    def _constant(self, array: np.ndarray) -> fx.Node:
        name = f"c{len(self.root._buffers)}"
        self.root.register_buffer(name, torch.from_numpy(np.array(array, np.float32)))
        return self.graph.get_attr(name)

    def _per_channel(self, offset: int, count: int) -> fx.Node:
        return self._constant(self.floats.per_channel(offset, count))

    def _value(self, index: int, op: Op) -> fx.Node | None:
        """The node of one instruction; none for comparisons, which their readers write."""
        shape = self.program.shapes[index]
        match op:
            case Image():
                mean, std = (self._per_channel(at, op.channels) for at in (op.mean, op.std))
                return self._call(torch.div, self._call(torch.sub, self.images, mean), std)
            case Quantize():
                return None
            case Conv():
                return self._convolution(index, op, self._at(op.x))
            case BitConv():
                return self._convolution(index, op, self._comparison(op))
            case Affine() if index in self.floats.folded:
                return self._at(op.x)
            case Affine():
                scale, shift = (self._per_channel(at, shape.channels) for at in (op.scale, op.shift))
                return self._call(torch.addcmul, shift, self._at(op.x), scale)
            case PRelu():
                slope = self._constant(self.floats.numbers(op.slope, shape.channels))
                return self._call(functional.prelu, self._at(op.x), slope)
            case Clip():
                if (op.low, op.high) == (0, LARGEST_REAL):
                    return self._call(functional.relu, self._at(op.x))
                return self._call(torch.clamp, self._at(op.x), op.low, op.high)
            case Shuffle():
                return self._call(torch.channel_shuffle, self._at(op.x), op.groups)
            case Add():
                return self._call(torch.add, self._at(op.x), self._at(op.y))
            case Concat():
                return self._call(torch.cat, [self._at(x) for x in op.xs], 1)
            case Pool():
                return self._pool(index, op)
            case Mean():
                return self._call(torch.mean, self._at(op.x), (2, 3), True)
            case Flatten():
                flat = self._call(torch.flatten, self._at(op.x), 1)
                return self._call(torch.reshape, flat, (-1, shape.channels, 1, 1))
            case Zeros():
                zeros = self._constant(np.zeros((1, *shape.dims)))
                count = self._call(torch.Tensor.size, self.images, 0)
                return self._call(torch.Tensor.expand, zeros, count, -1, -1, -1)
        raise NotImplementedError(op.name)

    def _convolution(self, index: int, op: Conv | BitConv, x: fx.Node) -> fx.Node:
        weight, bias = self.floats.convolution(index)
        size = self.program.inputs(index)[0].dims[1:]
        plain = self._constant(bias) if bias is not None else None
        if size == op.window.kernel == op.window.size == (1, 1) and op.groups == 1 and op.window.origin == (0, 0):
            flat = self._call(torch.flatten, x, 1)
            linear = self._call(functional.linear, flat, self._constant(weight[:, :, 0, 0]), plain)
            return self._call(torch.reshape, linear, (-1, op.out, 1, 1))
        window = op.window
        x, same = self._padded(x, borders(window, size), 0.0)
        return self._call(
            functional.conv2d, x, self._constant(weight), plain, window.stride, same, window.dilation, op.groups
        )

    def _padded(
        self, x: fx.Node, padding: Borders, fill: float, most: float = np.inf
    ) -> tuple[fx.Node, tuple[int, int]]:
        """``x``, and the padding that is left to the layer: all of it where that is symmetric and at most ``most``."""
        (top, bottom), (left, right) = padding
        if top == bottom >= 0 and left == right >= 0 and max(top, left) <= most:
            return x, (top, left)
        return self._call(functional.pad, x, (left, right, top, bottom), "constant", fill), (0, 0)

    def _comparison(self, op: BitConv) -> fx.Node:
        """What the codes of a quantizer stand for; written once for all readers that agree on it."""
        key = (op.x, op.values)
        if key not in self._quantized:
            quantize = self.program.ops[op.x]
            assert isinstance(quantize, Quantize)
            x = self._at(quantize.x)
            thresholds, values = self.floats.comparison(op.x, op.values)
            if op.values == (-1, 1):
                self._quantized[key] = self._sign(x, thresholds[0], values[1])
            else:
                self._quantized[key] = self._steps(x, thresholds, values)
        return self._quantized[key]

    def _steps(self, x: fx.Node, thresholds: np.ndarray, values: np.ndarray) -> fx.Node:
        """values[k] of the last threshold k - 1 that x reaches."""
        y: Any = self._choice(values[0])
        for threshold, value in zip(thresholds, values[1:], strict=True):
            passed = self._call(torch.ge, x, self._constant(threshold.reshape(1, -1, 1, 1)))
            y = self._call(torch.where, passed, self._choice(value), y)
        return y

    def _sign(self, x: fx.Node, threshold: np.ndarray, above: np.ndarray) -> fx.Node:
        """``above`` where x >= threshold, -``above`` elsewhere: four times quicker in torch than a choice.

        The sign bit of x - t is that of the answer, a tie's zero included (-0 - -0 is +0, so a threshold of zero gets
        a minus). Where the direction is turned, x < t is x <= the float before t, and that minus x has the sign bit.
        """
        threshold = np.where(threshold == 0, np.float32(-0.0), threshold)
        if (above == 1).all():
            distance = self._call(torch.sub, x, self._constant(threshold.reshape(1, -1, 1, 1)))
        else:
            other = np.where(above == 1, -threshold, np.nextafter(threshold, np.float32(-np.inf)))
            shift, direction = (self._constant(a.reshape(1, -1, 1, 1)) for a in (other, above))
            distance = self._call(torch.addcmul, shift, x, direction)
        return self._call(torch.copysign, self._constant(np.ones(())), distance)

    def _choice(self, values: np.ndarray) -> fx.Node | float:
        """One number where all channels agree, which is the rule; else one per channel."""
        return float(values[0]) if (values == values[0]).all() else self._constant(values.reshape(1, -1, 1, 1))

    def _pool(self, index: int, op: Pool) -> fx.Node:
        size, window = self.program.inputs(index)[0].dims[1:], op.window
        x, padding = self._at(op.x), borders(window, size)
        most = min(window.kernel) // 2
        if op.kind == "max":
            x, same = self._padded(x, padding, -np.inf, most)
            return self._call(functional.max_pool2d, x, window.kernel, window.stride, same)
        outer, same = self._padded(x, padding, 0.0, most)
        counted = op.kind == "mean_padded"
        y = self._call(functional.avg_pool2d, outer, window.kernel, window.stride, same, False, counted)
        if counted or outer is x:
            return y
        # Explicit padding was counted along: correct by what share of each window lies inside.
        return self._call(torch.div, y, self._constant(_shares(window, size)))


def _shares(window: Window, size: tuple[int, int]) -> np.ndarray:
    """Per output, which share of the window lies inside a map of ``size``: (1, 1, height, width)."""
    inside = []
    for axis in (0, 1):
        starts = np.arange(window.size[axis]) * window.stride[axis] + window.origin[axis]
        stops = starts + window.kernel[axis]
        inside.append((stops.clip(max=size[axis]) - starts.clip(min=0)) / window.kernel[axis])
    return np.outer(*inside)[None, None]
