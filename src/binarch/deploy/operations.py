"""What torch's functions and tensor methods become in a program.

Most are layers under another name, so they are lowered as that layer: ``functional.relu(x)`` as ``nn.ReLU()``. The
parameters of the methods here are those of torch, so that Python itself sorts the arguments.
"""

import operator
from collections.abc import Callable, Sequence
from enum import Enum
from math import prod
from typing import Any, final

import torch
from torch import nn
from torch.nn import functional

from binarch.deploy.builder import Builder
from binarch.errors import UserError
from binarch.runtime.ops import Add, Concat, Mean, Zeros

#: Appends a module that reads a value; returns the value of its output.
Lower = Callable[[nn.Module, Builder, int], int]


class Batch(Enum):
    """The number of images, which a program does not know: the first number of every shape."""

    SIZE = "batch size"


@final
class Map:
    """A tensor of the traced network: at the moment it holds value ``index`` of the program.

    An operation in place gives it another one, and all who read it later see that. Other views of the same memory
    (after ``flatten``, say) do not: they are taken for copies.
    """

    def __init__(self, index: int) -> None:
        self.index = index


@final
class Operations:
    """The operations, each a method that appends instructions.

    A method returns a new :class:`Map`, or the one it was given where torch would return that very tensor, or numbers
    (of a shape). It raises a :class:`UserError` with the reason where only some uses of an operation can be packed.
    """

    def __init__(self, builder: Builder, lower: Lower) -> None:
        self.builder = builder
        self.lower = lower

    def layer(self, module: nn.Module, input: object) -> Map:
        """What a known module does."""
        return Map(self.lower(module, self.builder, _index(input)))

    def add(self, input: object, other: object, *, alpha: object = 1) -> Map:
        """x + y of one shape; also 0 + x, with which Python's ``sum`` begins."""
        terms = [term for term in (input, other) if isinstance(term, Map) or term != 0]
        if alpha != 1 or not terms or not all(isinstance(term, Map) for term in terms):
            raise UserError("only maps can be added; put other numbers into a batch norm or a bias")
        indices = [_index(term) for term in terms]
        if len(indices) == 1:
            return Map(indices[0])
        first, second = (self.builder.shapes[index].dims for index in indices)
        if first != second:
            raise UserError(f"maps of {first} and {second} cannot be added; bring them to one shape")
        return Map(self.builder.add(Add(*indices)))

    def cat(self, tensors: Sequence[object], dim: int = 0) -> Map:
        """Channels after channels."""
        if dim not in (1, -3):
            raise UserError(f"dim={dim} cannot be packed; concatenate channels, dim=1")
        return Map(self.builder.add(Concat(tuple(_index(tensor) for tensor in tensors))))

    def pad(self, input: object, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Map:
        """Zeros before and behind the channels."""
        x, sizes = _index(input), tuple(pad)
        possible = len(sizes) == 6 and sizes[:4] == (0, 0, 0, 0) and all(type(n) is int and n >= 0 for n in sizes)
        if not possible or mode != "constant" or value not in (None, 0):
            raise UserError(
                f"pad={sizes}, mode={mode!r}, value={value} cannot be packed; pad channels with zeros, "
                "(0, 0, 0, 0, before, behind), and pixels in the convolution"
            )
        _, height, width = self.builder.shapes[x].dims
        before, behind = ([self.builder.add(Zeros(n, height, width))] if n else [] for n in sizes[4:])
        return Map(self.builder.add(Concat((*before, x, *behind))))

    def mean(self, input: object, dim: object = None, keepdim: bool = False) -> Map:
        """The mean over all pixels."""
        dims = tuple(dim) if isinstance(dim, tuple | list) else dim
        if dims not in ((2, 3), (3, 2), (-2, -1), (-1, -2)):
            raise UserError(f"dim={dims} cannot be packed; take the mean over height and width, (2, 3)")
        return Map(self.builder.add(Mean(_index(input))))

    def flatten(self, input: object, start_dim: int = 0, end_dim: int = -1) -> Map:
        """All numbers of an image in a row."""
        return self.layer(nn.Flatten(start_dim, end_dim), input)

    def view(self, input: object, *shape: Any) -> Map:
        """The same, told as a shape: (batch, -1)."""
        sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        total = prod(self.builder.shapes[_index(input)].dims)
        if sizes not in ((Batch.SIZE, -1), (Batch.SIZE, total), (-1, total)):
            raise UserError(f"{sizes} of {total} numbers cannot be packed; use flatten(1)")
        return self.layer(nn.Flatten(), input)

    def getitem(self, input: object, index: object) -> Map:
        """Every s-th row and column, ``x[:, :, ::s, ::s]``: the largest of one pixel."""
        parts = index if isinstance(index, tuple) else (index,)
        steps = [part.step for part in parts if isinstance(part, slice) and not part.start and part.stop is None]
        if len(parts) != 4 or len(steps) != 4 or steps[:2] != [None, None]:
            raise UserError("only x[:, :, ::s, ::s] can be packed")
        return self.layer(nn.MaxPool2d(1, (steps[2] or 1, steps[3] or 1)), input)

    def size(self, input: object, dim: int | None = None) -> object:
        """The shape, or one number of it."""
        sizes = (Batch.SIZE, *self.builder.shapes[_index(input)].dims)
        return sizes if dim is None else sizes[dim]

    def getattr(self, input: object, name: str) -> object:
        """Only ``x.shape``."""
        if name != "shape":
            raise UserError(f"{name} cannot be packed; of a map's attributes only shape can")
        return self.size(input)

    def contiguous(self, input: object) -> object:
        """Nothing: a program has its own layout."""
        return input

    def dropout(self, input: object, p: float = 0.5, training: bool = True, inplace: bool = False) -> object:
        """Nothing, in evaluation."""
        if training:
            raise UserError("dropout in evaluation too cannot be packed; pass training=self.training")
        return input

    def relu(self, input: object, inplace: bool = False) -> Map:
        """max(x, 0)."""
        return self.layer(nn.ReLU(), input)

    def relu6(self, input: object, inplace: bool = False) -> Map:
        """min(max(x, 0), 6)."""
        return self.layer(nn.ReLU6(), input)

    def hardtanh(self, input: object, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Map:
        """min(max(x, min_val), max_val)."""
        return self.layer(nn.Hardtanh(min_val, max_val), input)

    def max_pool2d(
        self,
        input: object,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Map:
        """The largest of each window."""
        layer = nn.MaxPool2d(kernel_size, stride or None, padding, dilation, ceil_mode=ceil_mode)
        return self.layer(layer, input)

    def avg_pool2d(
        self,
        input: object,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Map:
        """The mean of each window."""
        options = ceil_mode, count_include_pad, divisor_override
        return self.layer(nn.AvgPool2d(kernel_size, stride or None, padding, *options), input)

    def adaptive_avg_pool2d(self, input: object, output_size: Any) -> Map:
        """The mean over all pixels, for size 1."""
        size = tuple(output_size) if isinstance(output_size, list) else output_size
        return self.layer(nn.AdaptiveAvgPool2d(size), input)


def _index(value: object) -> int:
    """The program's value that a map holds."""
    if not isinstance(value, Map):
        raise UserError("an argument is no map of the network; only maps can be packed here")
    return value.index


#: The method for each function of torch, and for the name of each tensor method. A name that ends with _ is in place.
OPERATIONS: dict[object, Callable[..., object]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), Operations.add),
    **dict.fromkeys((torch.cat, torch.concat), Operations.cat),
    functional.pad: Operations.pad,
    **dict.fromkeys((torch.mean, "mean"), Operations.mean),
    **dict.fromkeys((torch.flatten, "flatten"), Operations.flatten),
    **dict.fromkeys((torch.reshape, "reshape", "view"), Operations.view),
    operator.getitem: Operations.getitem,
    getattr: Operations.getattr,
    "size": Operations.size,
    "contiguous": Operations.contiguous,
    **dict.fromkeys((functional.dropout, functional.dropout2d), Operations.dropout),
    **dict.fromkeys((functional.relu, torch.relu, torch.relu_, "relu", "relu_"), Operations.relu),
    functional.relu6: Operations.relu6,
    functional.hardtanh: Operations.hardtanh,
    **dict.fromkeys((functional.max_pool2d, torch.max_pool2d), Operations.max_pool2d),
    functional.avg_pool2d: Operations.avg_pool2d,
    functional.adaptive_avg_pool2d: Operations.adaptive_avg_pool2d,
}
