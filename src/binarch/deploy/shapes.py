"""Between PyTorch's shapes and a program's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from binarch.deploy.builder import Builder
from binarch.runtime.ops import Window


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as float32 numbers."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def window(
    kernel: Any, stride: Any, padding: Any, dilation: Any, size: tuple[int, int], *, ceil: bool = False
) -> Window:
    """The window of a convolution or pool on a map of ``size``."""
    kernel, stride, padding, dilation = (
        (n, n) if isinstance(n, int) else (int(n[0]), int(n[1])) for n in (kernel, stride, padding, dilation)
    )
    span = [n + 2 * p - d * (k - 1) - 1 for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)]
    out = [(-(-s // t) if ceil else s // t) + 1 for s, t in zip(span, stride, strict=True)]
    if ceil:  # PyTorch drops a last window that begins behind the map
        out = [n - ((n - 1) * t >= m + p) for n, t, m, p in zip(out, stride, size, padding, strict=True)]
    return Window(kernel, stride, dilation, (-padding[0], -padding[1]), (out[0], out[1]))


def size(builder: Builder, x: int) -> tuple[int, int]:
    """Height and width of a value."""
    return builder.shapes[x].height, builder.shapes[x].width
