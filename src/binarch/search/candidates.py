"""What a candidate cell is worth: the validation accuracy after a short training."""

from typing import Any

from binarch.data import Dataset
from binarch.models import NetworkConfig
from binarch.nn import Binarize
from binarch.runs import RunFolder
from binarch.search.config import SearchConfig
from binarch.spaces import Genotype
from binarch.training import Display, TrainConfig, train

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


def score(
    genotype: Genotype, config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display
) -> dict[str, Any]:
    """Train the candidate briefly on one half, in a folder of its own; a finished training is read back.

    The record: ``validation_accuracy`` on the other half (the test set stays closed), ``seconds``, ``params``,
    ``genotype``.
    """
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
    done = train(genotype, settings, dataset, folder, display, test=False, resume=True)
    return {
        "validation_accuracy": done["validation_accuracy"],
        "seconds": done["train_seconds"],
        "params": done["costs"]["params"],
        "genotype": genotype.to_dict(),
    }
