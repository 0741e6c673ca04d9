"""One line of a published table: what was reported, and how we make it ourselves."""

from dataclasses import dataclass
from typing import Literal, final

from binarch.models import NetworkConfig
from binarch.training import TrainConfig

#: ``own``: the method's published recipe; ``common``: one recipe and network for all methods.
RecipeName = Literal["own", "common"]


@final
@dataclass(frozen=True)
class Recipe:
    """An architecture and how it is trained, at the scale of the paper and at that of two CPU cores."""

    arch: str
    """A network of the catalogue, or a genotype's name."""
    train: TrainConfig
    """At the scale of the paper; its ``network`` too."""
    cpu_network: NetworkConfig
    """The smaller network of the budgets ``cpu`` and ``smoke``."""


@final
@dataclass(frozen=True)
class Row:
    """A method of a table."""

    name: str
    method: str
    bits: str
    """Of weights / activations, as the table has it."""
    published: float
    """Test accuracy on CIFAR-10 in percent, as the table has it."""
    architecture: str
    """As the table has it."""
    own: Recipe | None
    """None where no recipe is known for the method's network."""
    common: Recipe | None
    """None where another row's is the same."""
    deviations: tuple[str, ...]
    """What differs from the published training even at the scale of the paper."""

    @property
    def one_bit(self) -> bool:
        """Whether weights and activations carry one bit."""
        return self.bits.startswith(("1/1", "(1/1)"))

    @property
    def recipes(self) -> dict[RecipeName, Recipe]:
        """Those that there are, by name."""
        both: dict[RecipeName, Recipe | None] = {"own": self.own, "common": self.common}
        return {name: recipe for name, recipe in both.items() if recipe is not None}
