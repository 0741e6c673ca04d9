"""A first layer whose outputs are uncorrelated, as airbench (Jordan, 2024) begins its networks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import Channels, Images, normalise
from binarch.errors import UserError
from binarch.nn import QuantConv2d

#: Images whose patches are looked at, at most; as many as airbench takes.
IMAGES = 5000
#: Pixels that are looked at at a time.
_PIXELS = 2**17
#: Added to the variances, so that directions in which patches hardly vary are not blown up.
EPSILON = 5e-4


def whitening(parts: Iterable[Tensor], kernel: tuple[int, int]) -> Tensor:
    r"""The principal directions of all patches, each divided by its deviation.

    Patches p of the images in ``parts``, each (N, 3, H, W), have :math:`d = 3 k_h k_w` numbers and the covariance
    :math:`E \Lambda E^T`. Returned are the rows of :math:`(\Lambda + \epsilon)^{-1/2} E^T` as d filters
    (d, 3, k_h, k_w), most variance first: their outputs are uncorrelated, and of variance 1 where a direction's is far
    above :math:`\epsilon`. The largest number of each is positive, so that there is one answer. airbench does not
    subtract the mean.
    """
    size = 3 * kernel[0] * kernel[1]
    count, total, products = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
    for part in parts:
        patches = functional.unfold(part.double(), kernel)
        count += len(patches) * patches.shape[2]
        total += patches.sum((0, 2)).cpu()
        products += torch.einsum("nip,njp->ij", patches, patches).cpu()
    mean = total / count
    variances, directions = torch.linalg.eigh(products / count - mean.outer(mean))
    filters = directions.T.flip(0) / (variances.flip(0).clamp(min=0) + EPSILON).sqrt()[:, None]
    filters *= filters.gather(1, filters.abs().argmax(1, keepdim=True)).sign()
    return filters.view(size, 3, *kernel).float()


def first_layer(network: nn.Module) -> nn.Conv2d | QuantConv2d:
    """The convolution that sees the images; a :class:`UserError` where it is none, or not real."""
    layers = (module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear | QuantConv2d))
    first = next(layers, None)
    if isinstance(first, nn.Conv2d) or (isinstance(first, QuantConv2d) and first.weight_quantizer.bits == 32):
        return first
    raise UserError(
        f"whiten: needs a real convolution as the first layer, which is {type(first).__name__} here; leave it out, or "
        "give --where inner"
    )


def whiten_(network: nn.Module, images: Images, mean: Channels, std: Channels) -> None:
    """Let the first convolution begin as the whitening of ``images``, then its negatives.

    Of more filters than twice the numbers of a patch, the rest stay as they are; of fewer, the last are left out. What
    follows may be a ReLU, hence the negatives. airbench keeps these filters as they are; here they are where learning
    starts.
    """
    weight = first_layer(network).weight
    chosen = images.pixels[:: -(-len(images) // IMAGES)]  # they may lie sorted by class
    at_a_time = max(_PIXELS // chosen[0, 0].numel(), 1)
    parts = (normalise(part, mean, std) for part in chosen.split(at_a_time))
    filters = whitening(parts, (weight.shape[2], weight.shape[3]))
    both = torch.cat([filters, -filters])[: len(weight)]
    with torch.no_grad():
        weight[: len(both)] = both.to(weight)
