"""The four phases of a map: even and odd rows, even and odd columns.

A convolution with dilation 2 never mixes them. With stride 1 it is an undilated one on the phases, side by side in the
batch; with stride 2 only the even-even phase is asked for, a quarter of the work. An even padding is
half as wide in each phase. On a CPU the undilated filter gradient takes half the time.
"""

import torch
from torch import Tensor
from torch.nn import functional


def pixels(x: Tensor, start: int, step: int = 1) -> Tensor:
    """``x[..., start::step, start::step]``, with a gradient that is channels-last where ``x`` is.

    PyTorch fills up a slice's gradient in the default format, and what gets it is slow from there on.
    """
    if not x.is_contiguous(memory_format=torch.channels_last):
        return x[..., start::step, start::step]
    return x.permute(0, 2, 3, 1)[:, start::step, start::step].permute(0, 3, 1, 2)


def split_phases(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (4 N, C, ceil(H/2), ceil(W/2)); zeros fill up odd sizes. The result is channels-last."""
    h, w = x.shape[-2:]
    last = functional.pad(x, (0, w % 2, 0, h % 2)).permute(0, 2, 3, 1)
    split = last.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return split.permute(2, 4, 0, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def merge_phases(phases: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`split_phases`: (4 N, C, h, w) -> (N, C, height, width)."""
    split = phases.permute(0, 2, 3, 1).unflatten(0, (2, 2, -1)).permute(2, 3, 0, 4, 1, 5)
    return split.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)
