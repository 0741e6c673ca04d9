"""Settings that belong together, by name: a search and a training that follows it."""

from dataclasses import dataclass
from typing import final

from binarch.data import DataConfig
from binarch.models import NetworkConfig
from binarch.search import SearchConfig
from binarch.training import TrainConfig


@final
@dataclass(frozen=True)
class Recipe:
    """A search and a training."""

    description: str
    search: SearchConfig
    train: TrainConfig


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        "8x8 digits in minutes on two cores: the demo",
        SearchConfig(
            cells=(3,),
            channels=16,
            groups=4,
            epochs=(6,),
            warmup_epochs=2,
            alpha_learning_rate=1e-2,
            crop_padding=1,
            flip="none",
        ),
        TrainConfig(
            network=NetworkConfig(cells=5, channels=24, groups=4, output_scale=True),
            epochs=(15, 20),
            learning_rate=(4e-3, 2e-3),
            weight_decay=(0.0,),
            batch_size=64,
            crop_padding=1,
            flip="none",
        ),
    ),
    "cifar10": Recipe(
        "CIFAR-10 at paper scale: half/half search, then 20 cells, 36 channels, 12 groups, two stages (a GPU's work)",
        SearchConfig(
            data=DataConfig(dataset="cifar10"),
            channels=24,
            epochs=(50,),
            warmup_epochs=5,
            max_skips=2,
            seed=(0, 1, 2, 3),
            rank_epochs=25,
        ),
        TrainConfig(
            data=DataConfig(dataset="cifar10"),
            network=NetworkConfig(output_scale=True, auxiliary=True),
            epochs=(300, 300),
            weight_decay=(1e-2, 0.0),
            cutout=16,
            validation=0.0,
        ),
    ),
    "pdarts": Recipe(
        "P-DARTS on CIFAR-10 as published: three stages in the darts space, real-valued (a GPU's work)",
        SearchConfig(
            data=DataConfig(dataset="cifar10"),
            strategy="pdarts",
            space="darts",
            cells=(5, 11, 17),
            channels=16,
            epochs=(25,),
            keep=(5, 3),
            warmup_epochs=10,
            skip_dropout=(0.0, 0.4, 0.7),
            max_skips=2,
            batch_size=96,
            alpha_learning_rate=6e-4,
        ),
        TrainConfig(
            data=DataConfig(dataset="cifar10"),
            network=NetworkConfig(space="darts", auxiliary=True),
            binarize=("none",),
            epochs=(600,),
            learning_rate=(0.025,),
            weight_decay=(3e-4,),
            optimizer="sgd",
            batch_size=128,
            drop_path=0.3,
            cutout=16,
            validation=0.0,
        ),
    ),
    "cifar10-cpu": Recipe(
        "CIFAR-10 on two cores: meant for 25 minutes of search, 15 of training; 16 pixels, 5 cells, few epochs",
        SearchConfig(
            data=DataConfig(dataset="cifar10", image_size=16, limit=10000),
            cells=(5,),
            channels=16,
            groups=4,
            epochs=(9,),
            warmup_epochs=3,
            learning_rate=0.05,
            alpha_learning_rate=3e-3,
            crop_padding=2,
            max_skips=2,
            candidates=5,
        ),
        TrainConfig(
            data=DataConfig(dataset="cifar10", image_size=16),
            network=NetworkConfig(cells=5, channels=24, groups=4, output_scale=True),
            epochs=(1, 2),
            learning_rate=(4e-3, 2e-3),
            crop_padding=2,
        ),
    ),
}
