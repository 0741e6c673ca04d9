"""How much of Table 2 is run."""

from dataclasses import dataclass, replace
from typing import final

from binarch.data import DataConfig
from binarch.models import NetworkConfig
from binarch.search import SearchConfig
from binarch.training import TrainConfig

#: Groups of the BATS space at small scales.
_GROUPS = 4


@final
@dataclass(frozen=True)
class Small:
    """A scale below the paper's: the same for all systems, so that cells are compared and not recipes."""

    image_size: int
    limit: int
    """Training images."""
    search_epochs: int
    """Of a gradient search; a search in stages has half of them (at least 2) in each."""
    candidates: int
    """Trainings of a search that trains candidates."""
    train_epochs: int
    """Of the training of cells; binary cells have half of them in each stage."""
    channels: int
    """Of trained cells; searches have two thirds."""

    @property
    def told(self) -> str:
        """What all rows have in common, for people."""
        half = max(1, self.train_epochs // 2)
        return (
            f"Supernets: 3 cells (P-DARTS 3, 4, 5), {2 * self.channels // 3} channels, {self.search_epochs} epochs "
            f"(P-DARTS {max(2, self.search_epochs // 2)} in each stage). Candidates: {self.candidates}, {half} epochs "
            f"each. Trainings: 4 cells, {self.channels} channels, {_GROUPS} groups in the BATS space; real-valued "
            f"{self.train_epochs} epochs of SGD from 0.05, binary {half} and {half} of AdamW from 0.004 and 0.002. "
            "Published cells of NASNet-A and AmoebaNet-A are DARTS' transcriptions. Real-valued searches are in the "
            "system's own space (DARTS', NASNet's, BATS'), binary ones all in BATS'."
        )

    def search(self, config: SearchConfig) -> SearchConfig:
        """The search at this scale."""
        stages = len(config.stages)
        return replace(
            config,
            data=self._data(config.data),
            cells=tuple(range(3, 3 + stages)),
            channels=2 * self.channels // 3,
            groups=_GROUPS,
            epochs=(self.search_epochs if stages == 1 else max(2, self.search_epochs // 2),),
            warmup_epochs=1,
            batch_size=32,
            learning_rate=0.05,
            alpha_learning_rate=1e-2,
            crop_padding=self.image_size // 8,
            seed=(0,),
            candidates=self.candidates,
            population=max(2, self.candidates // 4),
            sample=max(2, self.candidates // 8),
            rank_epochs=max(1, self.train_epochs // 2),
        )

    def train(self, config: TrainConfig) -> TrainConfig:
        """The training at this scale: SGD for real cells, AdamW in two stages for binary ones."""
        real = config.binarize == ("none",)
        wide = config.network.channels > NetworkConfig().channels
        return TrainConfig(
            data=self._data(config.data),
            network=replace(
                config.network,
                cells=4,
                channels=self.channels + (_GROUPS if wide else 0),
                groups=_GROUPS,
                auxiliary=False,
            ),
            binarize=("none",) if real else ("activations", "both"),
            epochs=(self.train_epochs,) if real else (max(1, self.train_epochs // 2),),
            learning_rate=(0.05,) if real else (4e-3, 2e-3),
            weight_decay=(3e-4,) if real else (0.0,),
            optimizer="sgd" if real else "adamw",
            batch_size=64,
            crop_padding=self.image_size // 8,
            validation=0.0,
        )

    def _data(self, data: DataConfig) -> DataConfig:
        return replace(data, image_size=self.image_size, limit=self.limit)


@final
@dataclass(frozen=True)
class Budget:
    """A scale; ``small`` is None at the paper's, which changes nothing."""

    description: str
    small: Small | None
    seeds: int
    """Trainings of each cell, and as many random cells of its size."""

    def search(self, config: SearchConfig) -> SearchConfig:
        """A search at this scale."""
        return config if self.small is None else self.small.search(config)

    def train(self, config: TrainConfig, seed: int) -> TrainConfig:
        """A training at this scale."""
        return replace(config if self.small is None else self.small.train(config), seed=seed)


BUDGETS: dict[str, Budget] = {
    "smoke": Budget("seconds a run, to see that everything works", Small(8, 200, 2, 4, 2, 12), 1),
    "cpu": Budget(
        "minutes a search, a minute a training, on two cores; no figure to be compared with the paper's",
        Small(16, 4000, 4, 16, 4, 12), 3,
    ),
    "paper": Budget("the published widths, sizes and epochs: for a GPU", None, 3),
}  # fmt: skip
