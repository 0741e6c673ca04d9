"""A first layer whose outputs are uncorrelated, as airbench (Jordan, 2024) begins its networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import Channels, Images, normalise
from binarch.errors import UserError
from binarch.nn import QuantConv2d

#: Images whose patches are looked at, at most; as many as airbench takes.
IMAGES = 5000
#: Added to the variances, so that directions in which patches hardly vary are not blown up.
EPSILON = 5e-4


def whitening(images: Tensor, kernel: tuple[int, int]) -> Tensor:
    r"""The principal directions of all patches, each divided by its deviation.

    Patches p of ``images`` (N, 3, H, W) have :math:`d = 3 k_h k_w` numbers and the covariance :math:`E \Lambda E^T`.
    Returned are the rows of :math:`(\Lambda + \epsilon)^{-1/2} E^T` as d filters (d, 3, k_h, k_w), most variance first:
    their outputs are uncorrelated, and of variance 1 where a direction's is far above :math:`\epsilon`. The largest
    number of each is positive, so that there is one answer. airbench does not subtract the mean.
    """
    size = 3 * kernel[0] * kernel[1]
    count, total, products = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
    for part in images.split(100):
        patches = functional.unfold(part.double(), kernel).transpose(0, 1).reshape(size, -1).cpu()
        count += patches.shape[1]
        total += patches.sum(1)
        products += patches @ patches.T
    mean = total / count
    variances, directions = torch.linalg.eigh(products / count - mean.outer(mean))
    filters = directions.T.flip(0) / (variances.flip(0).clamp(min=0) + EPSILON).sqrt()[:, None]
    filters *= filters.gather(1, filters.abs().argmax(1, keepdim=True)).sign()
    return filters.view(size, 3, *kernel).float()


def whiten_(network: nn.Module, images: Images, mean: Channels, std: Channels) -> None:
    """Let the first convolution begin as the whitening of ``images``, then its negatives.

    Of more filters than twice the numbers of a patch, the rest stay as they are; of fewer, the last are left out. What
    follows may be a ReLU, hence the negatives. airbench keeps these filters as they are; here they are where learning
    starts.
    """
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d | QuantConv2d)), None)
    real = isinstance(first, nn.Conv2d) or (first is not None and first.weight_quantizer.bits == 32)
    if first is None or not real or first.weight.shape[1] != 3:
        raise UserError("whiten: is for networks whose first layer is a real convolution of an image; leave it out")
    weight = first.weight
    every = -(-len(images) // IMAGES)  # images may lie sorted by class
    chosen = normalise(images.pixels[::every], mean, std)
    filters = whitening(chosen, (weight.shape[2], weight.shape[3]))
    both = torch.cat([filters, -filters])[: len(weight)]
    with torch.no_grad():
        weight[: len(both)] = both.to(weight)
