"""The bilevel gradient search that ``bats``, both ``darts`` and ``pdarts`` share.

A stage has a supernet of its own (``search_task``); the next stage begins with new weights and alphas on the candidates
that survived (P-DARTS). Any of the strategies takes the repairs of DARTS, one or several: ``partial``,
``auxiliary_skip``, ``beta_decay``.
"""

from typing import TYPE_CHECKING, Any

import torch

from binarch.data import Dataset, Images, split
from binarch.runs import RunFolder
from binarch.search.config import SearchConfig
from binarch.search.evaluation import SPLIT_SEED
from binarch.search.executor import Executor
from binarch.search.search_task import SearchTask
from binarch.spaces import Genotype
from binarch.training.device import make_fabric, warning
from binarch.training.display import Display
from binarch.training.loop import Loop

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def halves(dataset: Dataset, fabric: "Fabric") -> tuple[Images, Images]:
    """The training images in two class-balanced halves, on the device: for the weights, and for the alphas.

    All seeds and the ranking share the halves, so every seed is judged alike: by the half that its alphas have seen and
    its weights have not. Random cells have seen neither. Each half is in random order: batch statistics of a supernet
    must not depend on how a folder was sorted.
    """
    images = dataset.train.to(fabric.device)
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    first, second = (
        part[torch.randperm(len(part), generator=generator)] for part in split(images.labels.cpu(), 0.5, SPLIT_SEED)
    )
    return images.subset(first.to(fabric.device)), images.subset(second.to(fabric.device))


def search_gradient(config: SearchConfig, seed: int, dataset: Dataset, folder: RunFolder, display: Display) -> Genotype:
    """Run one seed of a gradient search in its own folder; a finished one is read back."""
    if folder.has("result.json"):
        return folder.ranks.told(lambda: Genotype.load(folder / "genotype.json"))
    fabric = make_fabric(config.device, config.supernet_precision, folder.ranks)
    parts = halves(dataset, fabric)

    def build(index: int) -> Any:
        return lambda names: SearchTask(config, seed, index, dataset, parts, fabric, folder, names)

    display = display.into(folder / "log.txt")
    if slow := warning(config.supernet_precision, fabric.device):
        display.say(slow)
    task = Loop(folder, display, seed, [build(index) for index in range(len(config.stages))]).run()
    assert isinstance(task, SearchTask)
    genotype = task.genotype()
    rows = folder.metrics()
    folder.write_json("genotype.json", genotype.to_dict())
    folder.write_json(
        "result.json",
        {
            "search_seconds": round(sum(row["seconds"] for row in rows), 1),
            "epochs": len(rows),
            "supernet_validation_accuracy": rows[-1]["validation_accuracy"],
            "derived_validation_accuracy": task.derived_accuracy(),
        },
    )
    return genotype


def propose(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, executor: Executor
) -> dict[str, Genotype]:
    """One genotype per seed."""
    return {
        f"seed-{seed}": search_gradient(config, seed, dataset, folder.child(f"seed-{seed}"), display)
        for seed in config.seed
    }
