"""How much of the real thing is run."""

from dataclasses import dataclass, replace
from typing import final

from binarch.reproduce.table1.row import Recipe
from binarch.training import TrainConfig
from binarch.training.config import per_stage


@final
@dataclass(frozen=True)
class Budget:
    """A scale. ``paper`` changes nothing; the others shrink images, networks and epochs, rows alike."""

    description: str
    image_size: int
    epochs: int
    """Of a whole training; shared among its stages. 0: as published."""
    limit: int | None
    """Training images; None: all."""
    seeds: int
    """Trainings of a 1/1 row; other rows get one, unless more are asked for."""

    def train_config(self, recipe: Recipe) -> TrainConfig:
        """The recipe's settings at this scale."""
        config = recipe.train
        data = replace(config.data, image_size=self.image_size, limit=self.limit)
        if not self.epochs:
            return replace(config, data=data)
        padding = max(1, config.crop_padding * self.image_size // 32) if config.crop_padding else 0
        return replace(
            config,
            data=data,
            network=recipe.cpu_network,
            epochs=shared(self.epochs, config.epochs, len(config.binarize)),
            crop_padding=padding,
            cutout=0,
            batch_size=min(config.batch_size, 128),
        )


def shared(total: int, published: tuple[int, ...], stages: int) -> tuple[int, ...]:
    """``total`` epochs in about the proportion of ``published``; one at least for each stage, even if that is more."""
    full = per_stage("epochs", published, stages)
    found = [1] * stages
    while sum(found) < total:  # to the stage that is furthest behind
        behind = max(range(stages), key=lambda stage: full[stage] / found[stage])
        found[behind] += 1
    return tuple(found)


BUDGETS: dict[str, Budget] = {
    "smoke": Budget("seconds a row, to see that everything works", 8, 1, 200, 1),
    "cpu": Budget("minutes a run, on two cores; no figure to be compared with the paper's", 16, 4, 25_000, 3),
    "paper": Budget("the published widths, sizes and epochs: for a GPU", 32, 0, None, 3),
}
