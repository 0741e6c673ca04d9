"""The settings of a search."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal, final, get_args

from binarch.data import Augment, DataConfig, Flip
from binarch.errors import UserError, choose
from binarch.nn import Binarization, Binarize
from binarch.spaces import SPACES, Space, build_space
from binarch.training.config import per_stage, require
from binarch.training.device import Device, Precision

StrategyName = Literal["bats", "darts", "darts-second", "pdarts", "evolution", "reinforce", "random"]
#: Softmax temperature of the ``bats`` strategy (see docs/architecture.md).
TEMPERATURE = 0.1


#: Strategies that train candidates one by one; the others train supernets.
CANDIDATE_STRATEGIES = ("random", "evolution", "reinforce")


def binarization_of(binarize: Binarize | None, space: str, strategy: str) -> Binarize:
    """What carries one bit in a search that asks for ``binarize``.

    Unless told, in the bats space: activations in a supernet; both in candidates, which are trained as what they will
    be. The other spaces are real-valued.
    """
    if binarize is not None:
        return binarize
    if space != "bats":
        return "none"
    return "both" if strategy in CANDIDATE_STRATEGIES else "activations"


@final
@dataclass(frozen=True)
class SearchStage:
    """One supernet: depth, epochs, dropout on skips at the start, and how many candidates per edge it hands on."""

    cells: int
    epochs: int
    skip_dropout: float
    keep: int | None


@final
@dataclass(frozen=True)
class SearchConfig:
    """How cells are searched. Half of the training images teach the weights, the other half the alphas.

    ``cells`` and ``epochs`` list one value per stage (a single value holds for all); ``keep`` lists how many candidates
    per edge survive each stage but the last, and so gives the number of stages.
    """

    data: DataConfig = field(default_factory=DataConfig)
    strategy: StrategyName = "bats"
    """How to choose (see: binarch list strategies)."""
    space: Literal["bats", "darts", "nasnet"] = "bats"
    """Which operations the primitives' names stand for."""
    binarize: Binarize | None = None
    """One bit in the search: none, activations, both (default: none; in bats activations, candidates both)."""
    cells: tuple[int, ...] = (8,)
    """Cells of the supernet, per stage."""
    channels: int = 24
    groups: int = 12
    """Width of the first cells; convolution groups of the bats space."""
    epochs: tuple[int, ...] = (50,)
    """Epochs, per stage."""
    keep: tuple[int, ...] = ()
    """Candidates per edge that survive each stage but the last, e.g. 5 3."""
    warmup_epochs: int = 0
    """Epochs at the start of each stage in which only the weights learn."""
    temperature: float | None = None
    """Softmax temperature (default: the strategy's; darts has 1)."""
    skip_dropout: tuple[float, ...] = (0.0,)
    """Dropout on skips at the start of each stage; it fades."""
    max_skips: int | None = None
    """Most skip connections in the normal cell (default: no limit)."""
    partial: int = 1
    """PC-DARTS: mix only 1/K of the channels, and weigh edges; published: 4."""
    auxiliary_skip: bool = False
    """DARTS-minus: one more skip on every edge, which fades out in each stage."""
    beta_weight: float = 0.0
    """beta-DARTS: what the weight of the logsumexp grows to in each stage; published: half the epochs."""
    batch_size: int = 64
    """Images per step, for the weights and again for the alphas."""
    learning_rate: float = 0.025
    """Rate of the weights (SGD, momentum 0.9) at the start; a cosine to 0.001 in each stage."""
    weight_decay: float = 3e-4
    """Weight decay of the weights."""
    alpha_learning_rate: float = 3e-4
    """Rate of the alphas (Adam)."""
    alpha_weight_decay: float = 1e-3
    """Weight decay of the alphas."""
    clip: float = 5.0
    """Largest norm of the weights' gradient."""
    crop_padding: int = 4
    flip: Flip = "random"
    """Pixels of padding for the random crop (0: none); mirror images: none, random or alternating."""
    seed: tuple[int, ...] = (0,)
    """Searches to run; with several (or with random cells) short trainings rank the results."""
    candidates: int = 40
    """Cells that random ranks, or that evolution and reinforce train in all."""
    population: int = 10
    sample: int = 3
    """evolution: how many live, how many compete to be a parent; reinforce: population is one lesson."""
    brood: int = 1
    """evolution: how many children are bred, and trained, at a time."""
    rank_epochs: int = 10
    """Epochs of the short training that ranks a cell."""
    precision: Precision = "auto"
    device: Device = "auto"
    """Number format of the computation, and where."""
    executor: Literal["local", "ray"] = "local"
    workers: int = 1
    """Who trains candidates: this machine or a Ray cluster (docs/cluster.md); how many at a time."""

    def __post_init__(self) -> None:
        for name, allowed in (("strategy", get_args(StrategyName)), ("executor", ("local", "ray"))):
            choose(name, getattr(self, name), allowed)
        for name in ("cells", "epochs", "skip_dropout"):
            per_stage(name, getattr(self, name), len(self.keep) + 1)
        limits = (len(SPACES[choose("space", self.space, SPACES)].rules.candidates), *self.keep)
        require(
            all(2 <= after < before for before, after in zip(limits, self.keep, strict=False)),
            "keep", self.keep, f"falling numbers from below {limits[0]} to 2 or more",
        )  # fmt: skip
        require(all(n >= 3 for n in self.cells), "cells", self.cells, "3 or more in each stage")
        require(all(n >= 1 for n in self.epochs), "epochs", self.epochs, "1 or more in each stage")
        longest = min(self.epochs) - 1
        require(
            0 <= self.warmup_epochs <= longest,
            "warmup_epochs",
            self.warmup_epochs,
            f"0 to {longest}, so that the alphas learn in every stage of {min(self.epochs)} epochs",
        )
        for name in ("weight_decay", "alpha_weight_decay"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        self.augment  # noqa: B018 (refuses a negative padding)
        require(self.temperature is None or self.temperature > 0, "temperature", self.temperature, "above 0")
        require(self.max_skips is None or self.max_skips >= 0, "max_skips", self.max_skips, "0 or more")
        require(self.partial >= 1, "partial", self.partial, "1 (off) or more")
        require(0 <= self.beta_weight < inf, "beta_weight", self.beta_weight, "0 (off) or more")
        require(
            self.beta_weight == 0 or min(self.epochs) >= 2, "beta_weight", self.beta_weight,
            "0, or 2 epochs or more in each stage: it begins with the second",
        )  # fmt: skip
        self._refuse_repairs_without_supernet()
        require(self.batch_size >= 2, "batch_size", self.batch_size, "2 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(self.alpha_learning_rate > 0, "alpha_learning_rate", self.alpha_learning_rate, "above 0")
        require(self.clip > 0, "clip", self.clip, "above 0")
        require(bool(self.seed), "seed", self.seed, "at least one")
        require(len(set(self.seed)) == len(self.seed), "seed", self.seed, "each seed once")
        require(all(0 <= p < 1 for p in self.skip_dropout), "skip_dropout", self.skip_dropout, "from 0 to below 1")
        if self.second_order and self.precision in ("bf16", "fp16"):
            raise UserError(
                f"precision: {self.precision} is too coarse for darts-second's finite differences; use 32 or auto"
            )
        if self.strategy == "pdarts" and not self.keep:
            raise UserError("keep: pdarts goes in stages with fewer candidates each; give it, e.g. --keep 5 3")
        require(self.population >= 1, "population", self.population, "1 or more")
        require(self.sample >= 1, "sample", self.sample, "1 or more")
        require(1 <= self.brood <= self.population, "brood", self.brood, f"1 to {self.population}, the population")
        least = {"evolution": self.population + 1, "reinforce": 2 * self.population}.get(self.strategy, 1)
        require(
            self.candidates >= least, "candidates", self.candidates,
            f"{least} or more with --population {self.population}, or {self.strategy} draws at random and never learns",
        )  # fmt: skip
        require(self.workers >= 1, "workers", self.workers, "1 or more")
        require(self.rank_epochs >= 1, "rank_epochs", self.rank_epochs, "1 or more")
        if self.strategy != "bats" and self.temperature is not None:
            raise UserError(f"temperature: {self.temperature} is for strategy bats; {self.strategy} has none")

    def _refuse_repairs_without_supernet(self) -> None:
        if self.strategy not in CANDIDATE_STRATEGIES:
            return
        if self.binarize == "activations":
            raise UserError(f"binarize: {self.strategy} trains candidates with both or none; activations is no choice")
        for name, off in (("partial", 1), ("auxiliary_skip", False), ("beta_weight", 0.0)):
            if getattr(self, name) != off:
                raise UserError(
                    f"{name}: {getattr(self, name)} is for gradient strategies (bats, darts, darts-second, pdarts); "
                    f"{self.strategy} has no supernet, so leave it at {off}"
                )

    @property
    def stages(self) -> tuple[SearchStage, ...]:
        """The stages, one object each."""
        count = len(self.keep) + 1
        columns = (per_stage(name, getattr(self, name), count) for name in ("cells", "epochs", "skip_dropout"))
        return tuple(SearchStage(*values) for values in zip(*columns, (*self.keep, None), strict=True))

    @property
    def second_order(self) -> bool:
        """Whether the alphas look one step of the weights ahead."""
        return self.strategy == "darts-second"

    @property
    def supernet_precision(self) -> Precision:
        """The number format of supernets: 32 for the second order, whose differences drown in bfloat16's rounding."""
        return "32" if self.second_order else self.precision

    @property
    def binarization(self) -> Binarize:
        """What carries one bit during the search."""
        return binarization_of(self.binarize, self.space, self.strategy)

    @property
    def softmax_temperature(self) -> float:
        """The temperature in force."""
        if self.temperature is not None:
            return self.temperature
        return TEMPERATURE if self.strategy == "bats" else 1.0

    @property
    def augment(self) -> Augment:
        """The augmentation of both halves."""
        return Augment(self.crop_padding, self.flip, 0)

    def build_space(self) -> Space:
        """The space with its convolutions set to the search's binarization."""
        return build_space(self.space, Binarization(self.binarization), self.groups)
