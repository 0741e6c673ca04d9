"""One line of the supplement's Table 2: a system, what was reported, and how we make it ourselves."""

from dataclasses import dataclass
from typing import Literal, final

from binarch.search import SearchConfig
from binarch.training import TrainConfig

#: ``published``: the published cells trained anew; ``real``, ``binary``: cells of a search of our own, then trained.
Mode = Literal["published", "real", "binary"]


@final
@dataclass(frozen=True)
class Trained:
    """A published architecture and how it is trained."""

    arch: str
    """At the scale of the paper: a genotype's name, or a network of the catalogue."""
    small: str
    """The genotype that stands for it at small scales."""
    train: TrainConfig


@final
@dataclass(frozen=True)
class Searched:
    """A search, and how what it finds is trained."""

    search: SearchConfig
    train: TrainConfig


@final
@dataclass(frozen=True)
class System:
    """A line of the table."""

    name: str
    method: str
    error: float | None
    """Test error on CIFAR-10 in percent, as the table has it; None for what the table has not."""
    params: float | None
    """Millions of parameters, as the table has it."""
    gpu_days: float | None
    """Cost of the published search."""
    published: Trained | None
    """None where no cell was published."""
    real: Searched
    binary: Searched | None
    """None where another line has the same search."""
    deviations: tuple[str, ...]
    """What differs from the published search and training even at the scale of the paper."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Those that there are."""
        modes: tuple[Mode, ...] = ("published", "real", "binary")
        return tuple(mode for mode in modes if getattr(self, mode) is not None)

    def training(self, mode: Mode) -> TrainConfig:
        """How the cells of a mode are trained."""
        source = {"published": self.published, "real": self.real, "binary": self.binary}[mode]
        if source is None:
            raise KeyError(f"{self.name} has no mode {mode}")
        return source.train

    def searched(self, mode: Mode) -> Searched | None:
        """The search of a mode; None for ``published``."""
        return self.real if mode == "real" else self.binary if mode == "binary" else None
