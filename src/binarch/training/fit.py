"""Training a network, in stages."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from binarch.data import Dataset, Images, split
from binarch.errors import UserError
from binarch.models import Architecture, ScheduledDropPath, costs
from binarch.ranks import Ranks
from binarch.runs import RunFolder, to_plain
from binarch.training.config import PREVIOUS, TrainConfig
from binarch.training.device import make_fabric, warning
from binarch.training.display import Display
from binarch.training.evaluate import evaluate
from binarch.training.filtering import hardest, share_of
from binarch.training.loop import Loop, Task
from binarch.training.mining_task import MiningTask
from binarch.training.teacher import Teacher, fingerprint, load_teacher, weights_of
from binarch.training.train_task import TrainTask
from binarch.training.whitening import first_layer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Which of the images that are not held out are learned from, in a run with a proxy.
HARD = "hard.json"


def train(
    arch: Architecture,
    config: TrainConfig,
    dataset: Dataset,
    folder: RunFolder,
    display: Display,
    *,
    test: bool = True,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, write the run folder, return the content of ``result.json``.

    Decisions are taken on the validation share. With ``test`` the test images are read once, after the last epoch.
    Where weights are averaged, the figures on held-out and test images are the average's, and so is what is kept and
    handed from stage to stage. With ``resume`` a folder that was begun is continued; one that is finished is left as it
    is. The ranks that share ``folder`` share every batch. Batch norms use the statistics of a rank's part
    (SyncBatchNorm has no form for CPUs); running statistics are averaged after each step, so that all ranks always hold
    the same.
    """
    _check(arch, config, dataset, folder.ranks)
    fabric = make_fabric(config.device, config.precision, folder.ranks)
    folder.ranks.check_data(config.batch_size, dataset.train.pixels, dataset.train.labels)
    named = {"arch": arch} if isinstance(arch, str) else {"space": config.network.space, "genotype": arch.to_dict()}
    plain = {"verb": "train", **to_plain(config), **named, "found": dataset.identity()}
    named_teacher = None if config.teacher == PREVIOUS else config.teacher
    finished = resume and folder.has("result.json")
    if not finished:
        teacher = _asked("teacher", named_teacher, fabric, dataset, folder.ranks)
        proxy = _asked("proxy", config.proxy, fabric, dataset, folder.ranks)
    for flag, name, key in (("teacher", named_teacher, "taught_by"), ("proxy", config.proxy, "filtered_by")):
        # a finished run does not need them any more: they may be gone
        if name is not None and (not finished or weights_of(name).is_file()):
            plain[key] = fingerprint(flag, name)
    folder.claim(plain, resume=resume, defaults=to_plain(TrainConfig()))
    if finished:
        return dict(folder.read_json("result.json"))
    parts = _parts(config, dataset, fabric, proxy, folder)
    if not isinstance(arch, str):
        folder.write_json("genotype.json", arch.to_dict())
    display = display.into(folder / "log.txt")
    for word in _words(config, parts, warning(config.precision, fabric.device), untested=test and not dataset.has_test):
        display.say(word)
    stages = tuple(stage.binarize for stage in config.stages)

    def build(index: int, carry: Any) -> Task:
        if config.stages[index].kind == "mine":
            return MiningTask(config, index, arch, dataset, parts, fabric, folder.ranks, carry)
        teaches = teacher
        if config.teacher == PREVIOUS and index > 0:
            shape = len(dataset.classes), stages[index - 1], dataset.image_size
            before = config.network.build(arch, *shape, carry)
            teaches = Teacher(before, fabric, dataset, dataset.mean, dataset.std)
        return TrainTask(config, index, arch, dataset, parts, fabric, folder.ranks, carry, teaches)

    task = Loop(folder, display, config.seed, [partial(build, index) for index in range(len(stages))]).run()
    assert isinstance(task, TrainTask)
    return _finish(task, dataset, folder, display, test=test)


def _check(arch: Architecture, config: TrainConfig, dataset: Dataset, ranks: Ranks) -> None:
    """Refuse what cannot be trained, before anything is read or written."""
    if "mine" in config.binarize and not isinstance(arch, str):
        raise UserError("binarize: mine is for networks of the catalogue; cells have no interactions")
    if "mine" in config.binarize and ranks.world > 1:
        raise UserError(f"binarize: mine cannot be shared by {ranks.world} ranks; start it without torchrun")
    stages = tuple(stage.binarize for stage in config.stages)
    shape = len(dataset.classes), stages[0], dataset.image_size
    config.network.check(arch, stages, len(dataset.classes), dataset.image_size)
    if config.precision == "fp16" and config.network.scheme == "ccnn":
        raise UserError("precision: fp16 is not possible with ccnn, whose penalty the scaler divides; use bf16, 32")
    network = config.network.build(arch, *shape) if config.drop_path or config.whiten else None
    if config.drop_path and not isinstance(network, ScheduledDropPath):
        raise UserError(
            f"drop_path: {config.drop_path} is not possible with {arch}, which has no paths to drop; use 0 (a recipe "
            "may bring another)"
        )
    if config.whiten and network is not None:
        first_layer(network)
    kept, _ = split(dataset.train.labels.cpu(), config.validation, config.seed)
    left = share_of(len(kept), config.keep)
    if left < 2:
        raise UserError(
            f"validation, keep: {config.validation}, {config.keep} of {len(dataset.train)} images leave {left} to "
            "learn from, and a batch norm needs two; hold out less, or keep more"
        )
    ranks.check_batch(min(config.batch_size, left))


def _words(config: TrainConfig, parts: tuple[Images, Images], slow: str | None, *, untested: bool) -> Iterator[str]:
    """What to know before it begins."""
    training, held = map(len, parts)
    if slow:
        yield slow
    if training < config.batch_size:
        yield f"The set has {training} images, fewer than a batch of {config.batch_size}: one batch an epoch."
    if untested:
        yield f"There are no test images; {held or 'and no'} held-out ones tell how good it is."


def _parts(
    config: TrainConfig, dataset: Dataset, fabric: "Fabric", proxy: Teacher | None, folder: RunFolder
) -> tuple[Images, Images]:
    """The images to learn from, only those that ``proxy`` finds hard where there is one; and those held out.

    Which ones are hard is found out once and kept, since another device would round, and so choose, otherwise.
    """
    images = dataset.train.to(fabric.device)
    kept, held = (indices.to(fabric.device) for indices in split(images.labels.cpu(), config.validation, config.seed))
    training = images.subset(kept)
    if proxy is not None:
        if not folder.has(HARD):
            hard = folder.ranks.told(lambda: hardest(training, proxy, dataset, config.keep).tolist())
            folder.write_json(HARD, {"images": hard})
        training = training.subset(torch.tensor(folder.read_json(HARD)["images"], device=fabric.device))
    return training, images.subset(held)


def _asked(flag: str, name: str | None, fabric: "Fabric", dataset: Dataset, ranks: Ranks) -> Teacher | None:
    """The network of the finished training that ``flag`` names, if it names one."""
    if name is None:
        return None
    found = load_teacher(flag, name, fabric, dataset)
    if not ranks.agree(found.network.state_dict().values()):
        raise UserError(f"{flag}: {name} differs from rank to rank; give all of them the same training")
    return found


def _finish(task: TrainTask, dataset: Dataset, folder: RunFolder, display: Display, *, test: bool) -> dict[str, Any]:
    anew = task.recalibrate()
    weights = {name: value.contiguous() for name, value in task.result.state_dict().items()}
    folder.write("network.safetensors", save(weights))
    rows = folder.metrics()
    last = rows[-1] | anew
    result: dict[str, Any] = {
        "train_accuracy": last["train_accuracy"],
        "train_seconds": round(sum(row["seconds"] for row in rows), 1),
        "epochs": len(rows),
        "costs": costs(task.plain, dataset.image_size).to_dict(),
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "image_size": dataset.image_size,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
    }
    if "validation_accuracy" in last:
        result["validation_accuracy"] = last["validation_accuracy"]
    if test and dataset.has_test:
        images = dataset.test().to(task.fabric.device)
        score = evaluate(task.judged, images, dataset, loss=task.config.loss, ranks=folder.ranks)
        result["test_accuracy"], result["test_loss"] = score.accuracy, score.loss
        display.say(f"Test accuracy after the last epoch: {score.accuracy:.2%}")
    folder.write_json("result.json", result)
    return result
