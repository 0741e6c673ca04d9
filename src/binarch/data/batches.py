"""Batches on demand: any step of any epoch, without having walked there."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from binarch.data.augment import Augment, normalise
from binarch.data.images import Channels, Images
from binarch.data.seeds import derive_seed
from binarch.errors import UserError


@final
class Batches:
    """Training batches as a pure function of ``(seed, epoch, step)``.

    An epoch visits the images in a random order given by ``derive_seed(seed, "order", epoch)``; the
    augmentation of a batch is drawn from ``derive_seed(seed, "augment", epoch, step)``. A resumed run asks
    for the next step and gets what it would have got without the interruption; there is no state to save.

    Where flips alternate (airbench: Jordan, 2024), ``derive_seed(seed, "halves")`` parts the images into two halves,
    which are mirrored by turns: any two epochs in a row that visit an image show it once each way.

    Everything happens on the device of ``images``, with that device's generator: another kind of device draws
    other numbers. ``augment=None`` only normalises.
    """

    def __init__(
        self,
        images: Images,
        mean: Channels,
        std: Channels,
        batch_size: int,
        seed: int,
        augment: Augment | None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size} is not positive; give 1 or more")
        if not len(images):
            raise UserError("batches: there are no images; choose a set or a split with some")
        #: Images per batch: what was asked for, or the whole set if that is smaller.
        self.batch_size = min(batch_size, len(images))
        self._images = images
        self._mean, self._std = mean, std
        self._seed = seed
        self._augment = augment
        self._order: tuple[int, Tensor] | None = None
        self._odd: Tensor | None = None

    def __len__(self) -> int:
        """Steps per epoch; the last, partial batch is dropped."""
        return len(self._images) // self.batch_size

    def get(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (float32, B x 3 x S x S, augmented and normalised) and labels (int64, B) of one step."""
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} is not in 0..{len(self) - 1}")
        chosen = self._permutation(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        batch = self._images.subset(chosen)
        if self._augment is None:
            return normalise(batch.pixels, self._mean, self._std), batch.labels
        generator = self._generator("augment", epoch, step)
        turn = self._halves()[chosen] == (epoch % 2 == 1) if self._augment.flip == "alternating" else None
        return self._augment(batch.pixels, self._mean, self._std, generator, turn), batch.labels

    def _permutation(self, epoch: int) -> Tensor:
        """The epoch's order of images; the latest one is kept, since steps mostly come in sequence."""
        if self._order is None or self._order[0] != epoch:
            generator = self._generator("order", epoch)
            self._order = (
                epoch,
                torch.randperm(len(self._images), generator=generator, device=generator.device),
            )
        return self._order[1]

    def _halves(self) -> Tensor:
        """Which images are mirrored in odd epochs; the others, one more where their number is odd, in even ones."""
        if self._odd is None:
            generator = self._generator("halves")
            self._odd = torch.randperm(len(self._images), generator=generator, device=generator.device) % 2 == 1
        return self._odd

    def _generator(self, *purpose: int | str) -> torch.Generator:
        generator = torch.Generator(self._images.pixels.device)
        return generator.manual_seed(derive_seed(self._seed, *purpose))


def evaluation_batches(
    images: Images, mean: Channels, std: Channels, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All ``images`` once, in order, normalised, the last partial batch included."""
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} is not positive; give 1 or more")
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        yield normalise(pixels, mean, std), labels
