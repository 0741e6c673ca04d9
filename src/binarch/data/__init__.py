"""Image sets: any source to uint8 tensors to augmented batches."""

from binarch.data.augment import Augment, CropFill, Flip, normalise
from binarch.data.batches import Batches, evaluation_batches
from binarch.data.dataset import Dataset
from binarch.data.images import Channels, Images
from binarch.data.loading import CATALOGUE, DataConfig, load
from binarch.data.partition import split
from binarch.data.seeds import derive_seed

__all__ = [
    "CATALOGUE",
    "Augment",
    "Batches",
    "Channels",
    "CropFill",
    "DataConfig",
    "Dataset",
    "Flip",
    "Images",
    "derive_seed",
    "evaluation_batches",
    "load",
    "normalise",
    "split",
]
