"""Training the network of a genotype, in stages."""

from typing import Any, final

import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import Batches, Dataset, Images, derive_seed, split
from binarch.errors import UserError
from binarch.models import costs
from binarch.runs import RunFolder, to_plain, write_atomic
from binarch.spaces import Genotype
from binarch.training.config import TrainConfig, TrainStage
from binarch.training.device import make_fabric
from binarch.training.display import Display
from binarch.training.evaluate import evaluate
from binarch.training.loop import Loop, Task
from binarch.training.schedule import cosine


@final
class _TrainTask(Task):
    """One stage of a training."""

    def __init__(
        self,
        config: TrainConfig,
        index: int,
        genotype: Genotype,
        dataset: Dataset,
        parts: tuple[Images, Images],
        fabric: Fabric,
        weights: dict[str, Tensor] | None,
    ) -> None:
        stage = config.stages[index]
        count = len(config.stages)
        self.title = f"train {index + 1}/{count}: {stage.name}" if count > 1 else f"train: {stage.name}"
        self.config, self.stage, self.index, self.dataset = config, stage, index, dataset
        self.validation = parts[1]
        self.batches = Batches(
            parts[0],
            dataset.mean,
            dataset.std,
            config.batch_size,
            derive_seed(config.seed, index),
            config.augment,
        )
        self.epochs, self.steps, self.batch_size = stage.epochs, len(self.batches), self.batches.batch_size
        torch.manual_seed(derive_seed(config.seed, "weights"))
        self.plain = config.network.build(genotype, len(dataset.classes), stage.binarize)
        if weights is not None:
            self.plain.load_state_dict(weights)
        self.plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.optimizer = fabric.setup(self.plain, _optimizer(self.plain, config, stage))
        self.fabric = fabric

    def step(self, epoch: int, step: int) -> Tensor:
        x, y = self.batches.get(epoch, step)
        progress = (epoch + step / self.steps) / self.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = cosine(self.stage.learning_rate, 0.0, progress)
        self.plain.set_drop_path(self.config.drop_path * epoch / self.epochs)
        self.network.train()
        output = self.network(x.contiguous(memory_format=torch.channels_last))
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = functional.cross_entropy(logits, y, label_smoothing=self.config.label_smoothing)
        total = loss
        if auxiliary is not None:
            total = loss + self.config.auxiliary_weight * functional.cross_entropy(
                auxiliary, y, label_smoothing=self.config.label_smoothing
            )
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        nn.utils.clip_grad_norm_(self.plain.parameters(), self.config.clip)
        self.optimizer.step()
        correct = (logits.detach().argmax(1) == y).sum()
        return torch.stack([loss.detach().double() * len(y), correct.double(), correct.new_tensor(len(y)).double()])

    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        loss, correct, count = sums
        before = sum(stage.epochs for stage in self.config.stages[: self.index])
        row = {
            "phase": "train",
            "stage": self.index,
            "stage_name": self.stage.name,
            "epoch": epoch,
            "global_epoch": before + epoch,
            "lr": cosine(self.stage.learning_rate, 0.0, epoch / self.epochs),
            "train_loss": loss / count,
            "train_accuracy": correct / count,
        }
        if len(self.validation):
            score = evaluate(self.network, self.validation, self.dataset)
            row |= {"validation_loss": score.loss, "validation_accuracy": score.accuracy}
        return row

    def state(self) -> dict[str, Any]:
        return {"network": self.plain.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.plain.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def carry(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.plain.state_dict().items()}


def _optimizer(network: nn.Module, config: TrainConfig, stage: TrainStage) -> torch.optim.Optimizer:
    """Filters and matrices decay; norms, slopes and scales do not."""
    groups = [
        {"params": [p for p in network.parameters() if p.dim() > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in network.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=stage.learning_rate)


def train(
    genotype: Genotype,
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
    With ``resume`` a folder that was begun is continued; one that is finished is left as it is.
    """
    _check(config, dataset)
    plain = {
        "verb": "train",
        "space": config.network.space,
        **to_plain(config),
        "genotype": genotype.to_dict(),
        "found": dataset.identity(),
    }
    folder.claim(plain, resume=resume)
    if folder.has("result.json"):
        return dict(folder.read_json("result.json"))
    fabric = make_fabric(config.device, config.precision)
    training = dataset.train.to(fabric.device)
    kept, held = split(training.labels.cpu(), config.validation, config.seed)
    parts = (training.subset(kept.to(fabric.device)), training.subset(held.to(fabric.device)))
    folder.write_json("genotype.json", genotype.to_dict())
    display = display.into(folder / "log.txt")
    if parts[0].labels.numel() < config.batch_size:
        display.say(
            f"The set has {len(parts[0])} images, fewer than a batch of {config.batch_size}: one batch an epoch."
        )

    def build(index: int) -> Any:
        return lambda carry: _TrainTask(config, index, genotype, dataset, parts, fabric, carry)

    task = Loop(folder, display, config.seed, [build(index) for index in range(len(config.stages))]).run()
    assert isinstance(task, _TrainTask)
    return _finish(task, dataset, folder, display, test=test)


def _check(config: TrainConfig, dataset: Dataset) -> None:
    """Refuse what cannot be built before anything is written."""
    for stage in config.stages:
        config.network.build_space(stage.binarize).check(config.network.channels)
    if config.network.cells < 3:
        raise UserError(f"cells: {config.network.cells} is too few for two reductions; use 3 or more")
    if config.network.auxiliary and dataset.image_size < 32:
        raise UserError(
            f"auxiliary: images of {dataset.image_size} pixels are too small for the auxiliary head; it needs 32 "
            "(use --no-auxiliary or --image-size 32)"
        )


def _finish(task: _TrainTask, dataset: Dataset, folder: RunFolder, display: Display, *, test: bool) -> dict[str, Any]:
    weights = {name: value.contiguous() for name, value in task.plain.state_dict().items()}
    write_atomic(folder / "network.safetensors", save(weights))
    rows = folder.metrics()
    last = rows[-1]
    result: dict[str, Any] = {
        "train_accuracy": last["train_accuracy"],
        "train_seconds": round(sum(row["seconds"] for row in rows), 1),
        "epochs": len(rows),
        "costs": costs(task.plain, dataset.image_size).to_dict(),
        "classes": list(dataset.classes),
        "image_size": dataset.image_size,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
    }
    if "validation_accuracy" in last:
        result["validation_accuracy"] = last["validation_accuracy"]
    if test and dataset.has_test:
        score = evaluate(task.network, dataset.test().to(task.fabric.device), dataset)
        result["test_accuracy"], result["test_loss"] = score.accuracy, score.loss
        display.say(f"Test accuracy after the last epoch: {score.accuracy:.2%}")
    folder.write_json("result.json", result)
    return result
