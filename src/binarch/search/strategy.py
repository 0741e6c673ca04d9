"""What every strategy promises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from binarch.data import Dataset
from binarch.runs import RunFolder
from binarch.search.config import SearchConfig
from binarch.search.executor import Executor
from binarch.spaces import Genotype
from binarch.training import Display


@final
@dataclass(frozen=True)
class Strategy:
    """Proposes cells; where it proposes more than one, short trainings rank them.

    ``propose(config, dataset, folder, display, executor)`` returns named genotypes; it keeps whatever it needs to
    continue in the run folder. A proposal NAME that cost something has its ``search_seconds`` in NAME/result.json.
    """

    name: str
    description: str
    propose: Callable[[SearchConfig, Dataset, RunFolder, Display, Executor], dict[str, Genotype]]
