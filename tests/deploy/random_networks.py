"""Torch networks with numbers as a long training might leave them, and their logits."""

import numpy as np
import torch
from torch import Tensor, nn

from binarch.data.augment import normalise
from binarch.nn import PReLU, QuantConv2d

MEAN, STD = (0.49, 0.48, 0.44), (0.2, 0.25, 0.22)


@torch.no_grad()
def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """``network`` in evaluation mode with random numbers of both signs; every fifth BN gamma is zero."""
    torch.manual_seed(seed)
    for module in network.modules():
        match module:
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                module.get_buffer("running_mean").normal_()
                module.get_buffer("running_var").uniform_(0.5, 2)
                if module.affine:
                    module.weight.normal_()[::5] = 0
                    module.bias.normal_()
            case PReLU() | nn.PReLU():
                module.weight.normal_()
            case QuantConv2d() if module.scale is not None:
                module.scale.normal_(0.5, 0.5)
    return network.eval()


def some_images(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Random pixels (N, height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.uint8)


def torch_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """What the network answers, computed as an evaluation does."""
    pixels: Tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        return network(normalise(pixels, MEAN, STD).contiguous(memory_format=torch.channels_last)).numpy()
