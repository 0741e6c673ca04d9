"""Partial channels and edge weights (PC-DARTS, Xu et al., ICLR 2020).

Only the first C/K channels of a source pass the mixed operation; the others bypass it and are shuffled in. That saves
memory and time, and a skip has less of an advantage over filters that are still untrained. As the alphas are noisier
then, every edge gets one more parameter, and a softmax over the edges that enter a node says how much each contributes.

What differs from the published search:

- its bypass at stride 2 needs even sizes; ours rounds up, as the strided operations do;
- in the bats space groups stay as wide as they are in the derived cell, so there are K times fewer (``Space.part``);
- a softmax temperature (BATS) sharpens the choice of operations only: a node keeps two edges, not one;
- rates, batch size and the epochs with frozen alphas (15 of 50 there) are settings of their own (``warmup_epochs``).
"""

import torch
from torch import Tensor
from torch.nn import functional

from binarch.errors import UserError
from binarch.nn import ChannelShuffle
from binarch.spaces import Space


def check_width(space: Space, channels: int, partial: int) -> None:
    """Refuse a width whose ``partial``-th part the space cannot mix."""
    if partial == 1:
        space.check(channels)
        return
    if partial < 1 or channels % partial:
        raise UserError(f"partial: {partial} does not divide {channels} channels; choose --partial or --channels so")
    try:
        space.part(partial).check(channels // partial)
    except UserError as error:
        raise UserError(
            f"partial: {partial} leaves {channels // partial} of {channels} channels to the mixed operations, which "
            f"the space refuses; choose a smaller --partial or more --channels ({error})"
        ) from None


def split_channels(x: Tensor, partial: int) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> the first C/K channels, to be mixed, and the others."""
    first = x.shape[1] // partial
    return x[:, :first], x[:, first:]


def bypass(rest: Tensor, stride: int) -> Tensor:
    """What happens to the other channels: nothing, or 2 x 2 max pooling (up to ceil(H/2), ceil(W/2)) at stride 2."""
    return rest if stride == 1 else functional.max_pool2d(rest, 2, 2, ceil_mode=True)


def join_channels(mixed: Tensor, rest: Tensor, partial: int) -> Tensor:
    """Concatenate and shuffle in K groups, so that the next operation mixes other channels."""
    return ChannelShuffle(partial)(torch.cat([mixed, rest], 1))


def edge_softmax(alphas: Tensor, nodes: int) -> Tensor:
    r"""One weight per edge, :math:`\operatorname{softmax}` over the edges of each node: 2 of the first, 3 of the next.

    (edges,) -> (edges,); the weights of the edges that enter one node sum to 1.
    """
    return torch.cat([part.softmax(0) for part in alphas.split([node + 2 for node in range(nodes)])])
