"""What a candidate cell is worth: the validation accuracy after a short training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, final

import torch

from binarch.data import Dataset
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.nn import Binarize
from binarch.runs import RunFolder
from binarch.search.config import SearchConfig
from binarch.spaces import Genotype
from binarch.training import Display, Diverged, TrainConfig, train

#: Seed of the halves, of every search, of every short training.
SPLIT_SEED = 0


def candidate_network(config: SearchConfig) -> NetworkConfig:
    """Candidates have the shape of the (last) supernet."""
    return NetworkConfig(
        space=config.space, cells=config.stages[-1].cells, channels=config.channels, groups=config.groups
    )


def candidate_binarize(config: SearchConfig) -> Binarize:
    """Candidates are wholly binary, or real where the search is."""
    return "none" if config.binarization == "none" else "both"


@final
@dataclass(frozen=True)
class Job:
    """One evaluation to make; ``name`` is that of its folder inside the search's."""

    name: str
    genotype: Genotype


@final
@dataclass(frozen=True)
class Record:
    """What an evaluation found: accuracy on the held-out half (0..1; 0 if it diverged), seconds, parameters."""

    genotype: Genotype
    validation_accuracy: float
    seconds: float
    params: int

    def to_dict(self) -> dict[str, Any]:
        """As plain containers, for JSON."""
        return {**vars(self), "genotype": self.genotype.to_dict()}

    @staticmethod
    def read(folder: RunFolder) -> "Record":
        """The ``record.json`` of ``folder``; a damaged one is a :class:`UserError`."""
        plain = folder.read_json("record.json")
        try:
            numbers = float(plain["validation_accuracy"]), float(plain["seconds"]), int(plain["params"])
            return Record(Genotype.from_dict(plain["genotype"]), *numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / 'record.json'}: no record ({error!r}); delete it to evaluate again") from None


@final
class Evaluator:
    """Trains one candidate briefly on one half of the images and scores it on the other (the test set stays closed).

    It is all that a worker needs, and is sent to each whole: settings, training images, the search's run folder. Where
    that folder is reachable, a candidate is trained in a child of it: one that was begun is continued from its
    checkpoint, a finished one read back. Where it is not (another machine without a shared file system) the training
    leaves nothing behind but the record that is returned.
    """

    def __init__(self, config: SearchConfig, dataset: Dataset, folder: RunFolder) -> None:
        self.config, self.folder = config, RunFolder(folder.path.absolute(), folder.ranks)
        self.dataset = Dataset(dataset.name, dataset.classes, dataset.train, dataset.mean, dataset.std, None)

    def __call__(self, job: Job, display: Display) -> Record:
        """Evaluate ``job``; the training is told to ``display`` and to the candidate's ``log.txt``."""
        config = self.config
        settings = TrainConfig(
            data=config.data,
            network=candidate_network(config),
            binarize=(candidate_binarize(config),),
            epochs=(config.rank_epochs,),
            weight_decay=(0.0,),
            batch_size=config.batch_size,
            crop_padding=config.crop_padding,
            flip=config.flip,
            validation=0.5,
            precision=config.precision,
            device=config.device,
            seed=SPLIT_SEED,
        )
        with self._run_folder() as folder:
            child = folder.child(job.name)
            try:
                done = train(job.genotype, settings, self.dataset, child, display, test=False, resume=True)
            except Diverged as error:  # trained again it would diverge again: a cell of no worth, not the search's end
                display.say(f"{job.name}: {error}")
                return Record(job.genotype, 0.0, sum(row["seconds"] for row in child.metrics()), self._params(job))
        return Record(job.genotype, done["validation_accuracy"], done["train_seconds"], done["costs"]["params"])

    def _params(self, job: Job) -> int:
        network = candidate_network(self.config)
        with torch.device("meta"):
            built = network.build(job.genotype, len(self.dataset.classes), candidate_binarize(self.config))
        return sum(parameter.numel() for parameter in built.parameters())

    @contextmanager
    def _run_folder(self) -> Iterator[RunFolder]:
        if self.folder.ranks.told(self.folder.path.is_dir):
            yield self.folder
        else:
            with TemporaryDirectory(prefix="binarch-") as scratch:
                yield RunFolder(scratch, self.folder.ranks)
