"""Training a network, in stages."""

from functools import partial
from typing import Any, final

import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn

from binarch.data import Batches, Dataset, Images, derive_seed, evaluation_batches, split
from binarch.errors import UserError
from binarch.models import Architecture, ScheduledDropPath, costs
from binarch.nn import parameter_groups, settle, tune_
from binarch.ranks import Ranks
from binarch.runs import RunFolder, to_plain
from binarch.training.average import weight_average
from binarch.training.config import PREVIOUS, TrainConfig, TrainStage
from binarch.training.device import make_fabric
from binarch.training.display import Display
from binarch.training.evaluate import evaluate
from binarch.training.health import Health
from binarch.training.loop import Loop, Task
from binarch.training.loss import Loss, distillation, loss_of
from binarch.training.mining import Miner
from binarch.training.muon import Muon
from binarch.training.recalibrate import recalibrate
from binarch.training.schedule import Schedule
from binarch.training.shift_adamax import ShiftAdaMax
from binarch.training.teacher import Teacher, fingerprint, load_teacher


@final
class _TrainTask(Task):
    """One stage of a training."""

    def __init__(
        self,
        config: TrainConfig,
        index: int,
        arch: Architecture,
        dataset: Dataset,
        parts: tuple[Images, Images],
        fabric: Fabric,
        ranks: Ranks,
        weights: dict[str, Tensor] | None,
        teacher: Teacher | None = None,
    ) -> None:
        stage = config.stages[index]
        count = len(config.stages)
        self.title = f"train {index + 1}/{count}: {stage.name}" if count > 1 else f"train: {stage.name}"
        self.config, self.stage, self.index, self.dataset = config, stage, index, dataset
        self.fabric, self.ranks, self.teacher = fabric, ranks, teacher
        self.schedule = Schedule.parse(config.schedule)
        self.training, self.validation = parts
        self.batches = Batches(
            parts[0],
            dataset.mean,
            dataset.std,
            config.batch_size,
            derive_seed(config.seed, index),
            config.augment,
        )
        self.epochs, self.steps, self.batch_size = stage.epochs, len(self.batches), self.batches.batch_size
        ranks.check_batch(self.batch_size)
        torch.manual_seed(derive_seed(config.seed, "weights"))
        self.plain = config.network.build(arch, len(dataset.classes), stage.binarize, dataset.image_size, weights)
        self.plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = weight_average(self.plain, config.average) if config.average else None
        self.network, self.optimizer = fabric.setup(self._learner(), _optimizer(self.plain, config, stage))
        #: What is validated, kept and handed on: the average of the weights, or the weights themselves.
        self.result = self.plain if self.average is None else self.average.module
        separate = self.average is not None or config.compile != "no"
        self.judged = fabric.setup_module(self.result) if separate else self.network
        self.health = Health(self.plain)

    def _learner(self) -> nn.Module:
        """The network as it trains; on a GPU its grouped convolutions take the form that is quicker there."""
        fabric = self.fabric
        if fabric.device.type == "cuda":
            self.plain.to(fabric.device)
            x = self._looked_at()

            def forward(network: nn.Module) -> object:
                with fabric.autocast():
                    return network(x)

            tune_(self.plain, forward)
        if self.config.compile == "no":
            return self.plain
        made: nn.Module = torch.compile(self.plain, dynamic=False, mode=self.config.compile)  # type: ignore[assignment]
        return made

    def step(self, epoch: int, step: int) -> Tensor:
        x, y = (self.ranks.part(part) for part in self.batches.get(epoch, step))
        rate = self.schedule.at(self.stage.learning_rate, (epoch + step / self.steps) / self.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["step_scale"]
        if isinstance(self.plain, ScheduledDropPath):
            self.plain.set_drop_path(self.config.drop_path * epoch / self.epochs)
        self.network.train()
        x = x.contiguous(memory_format=torch.channels_last)
        output = self.network(x)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = total = loss_of(self.config.loss, logits, y, self.config.label_smoothing)
        if self.teacher is not None:
            share, temperature = self.config.teacher_weight, self.config.teacher_temperature
            loss = total = (1 - share) * loss + share * distillation(logits, self.teacher(x), temperature)
        if auxiliary is not None:
            beside = loss_of(self.config.loss, auxiliary, y, self.config.label_smoothing)
            total = loss + self.config.auxiliary_weight * beside
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        self.ranks.sum_([*_gradients(self.plain), *_statistics(self.plain)], self.ranks.share(self.batch_size))
        # a scaler of fp16 takes its scale off first, and skips steps whose gradients are no numbers
        self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.config.clip, error_if_nonfinite=False)
        self.optimizer.step()
        settle(self.plain)
        if self.average is not None:
            self.average.update_parameters(self.plain)
        correct = (logits.detach().argmax(1) == y).sum()
        total = loss.detach().double()
        return torch.stack([total * len(y), correct.double(), torch.full_like(total, len(y))])

    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        row = _record(self.config, self.index, epoch, sums)
        row["lr"] = self.schedule.at(self.stage.learning_rate, epoch / self.epochs)
        if self.average is not None and len(self.validation):
            row["validated"] = "average of the weights"
        row |= _judge(self.judged, self.validation, self.dataset, self.config.loss, self.ranks)
        row |= self.health.row(self._looked_at())
        self.health.begin_epoch()
        return row

    def _looked_at(self) -> Tensor:
        """One batch of images that stays the same: held out where there are such."""
        images = self.validation if len(self.validation) else self.training
        batch, _ = next(iter(evaluation_batches(images, self.dataset.mean, self.dataset.std, self.batch_size)))
        return batch.contiguous(memory_format=torch.channels_last)

    def state(self) -> dict[str, Any]:
        learned = {"network": self.plain.state_dict(), "optimizer": self.optimizer.state_dict()}
        learned |= {} if self.average is None else {"average": self.average.state_dict()}
        return learned | {"health": self.health.state(), "precision": self.fabric.strategy.precision.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.plain.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.health.load_state(state["health"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])

    def carry(self) -> dict[str, Tensor]:
        return _copy_of(self.result)

    def recalibrate(self) -> dict[str, float]:
        """Take the statistics of batch norms anew, if asked for; return what the held-out images say then."""
        count = self.config.recalibrate
        if not count:
            return {}
        recalibrate(self.result, self.judged, self.batches, self.epochs, count, self.ranks)
        return _judge(self.judged, self.validation, self.dataset, self.config.loss, self.ranks)


@final
class _MiningTask(Task):
    """Between two stages of CI-BCNN: edges are looked for, weights stand still."""

    def __init__(
        self, config: TrainConfig, index: int, arch: Architecture, dataset: Dataset, parts: tuple[Images, Images],
        fabric: Fabric, ranks: Ranks, weights: dict[str, Tensor],
    ) -> None:  # fmt: skip
        self.ranks = ranks
        self.index, self.title, self.epochs = index, config.stages[index].name, config.stages[index].epochs
        self.config, self.dataset, self.validation = config, dataset, parts[1]
        seed = derive_seed(config.seed, "mining")
        self.batches = Batches(parts[0], dataset.mean, dataset.std, config.batch_size, seed, config.augment)
        self.steps, self.batch_size = len(self.batches), self.batches.batch_size
        torch.manual_seed(seed)
        plain = config.network.build(arch, len(dataset.classes), "both", dataset.image_size, weights)
        self.plain = plain.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.miner = Miner(self.plain)

    def step(self, epoch: int, step: int) -> Tensor:
        x, y = self.batches.get(epoch, step)
        number = epoch * self.steps + step
        loss, logits = self.miner.step(number, x.contiguous(memory_format=torch.channels_last), y)
        correct = (logits.argmax(1) == y).sum()
        return torch.stack([loss.double() * len(y), correct.double(), correct.new_tensor(len(y)).double()])

    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        row = _record(self.config, self.index, epoch, sums)
        row |= {"edges": self.miner.edges, "actions_kept": self.miner.kept / self.miner.tried}
        return row | _judge(self.plain, self.validation, self.dataset, self.config.loss, self.ranks)

    def state(self) -> dict[str, Any]:
        return {"network": self.plain.state_dict(), "miner": self.miner.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.plain.load_state_dict(state["network"])
        self.miner.load_state(state["miner"])

    def carry(self) -> dict[str, Tensor]:
        return _copy_of(self.plain)


def _record(config: TrainConfig, index: int, epoch: int, sums: list[float]) -> dict[str, Any]:
    """What every stage says of an epoch."""
    loss, correct, count = sums
    return {
        "phase": "train",
        "stage": index,
        "stage_name": config.stages[index].name,
        "epoch": epoch,
        "global_epoch": sum(stage.epochs for stage in config.stages[:index]) + epoch,
        "train_loss": loss / count,
        "train_accuracy": correct / count,
    }


def _judge(network: nn.Module, held: Images, dataset: Dataset, loss: Loss, ranks: Ranks) -> dict[str, float]:
    """Loss and accuracy on what was held out; nothing where nothing was."""
    if not len(held):
        return {}
    score = evaluate(network, held, dataset, loss=loss, ranks=ranks)
    return {"validation_loss": score.loss, "validation_accuracy": score.accuracy}


def _gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def _statistics(network: nn.Module) -> list[Tensor]:
    """What layers gather while training, such as running means."""
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]


def _copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _optimizer(network: nn.Module, config: TrainConfig, stage: TrainStage) -> torch.optim.Optimizer:
    groups = parameter_groups(network, stage.learning_rate, stage.weight_decay, matrices=config.optimizer == "muon")
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    if config.optimizer == "muon":
        return Muon(groups)
    if config.optimizer == "shift_adamax":
        return ShiftAdaMax(groups, stage.learning_rate)
    return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=0.9, nesterov=config.optimizer == "nesterov")


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
    if "mine" in config.binarize and not isinstance(arch, str):
        raise UserError("binarize: mine is for networks of the catalogue; cells have no interactions")
    if "mine" in config.binarize and folder.ranks.world > 1:
        raise UserError(f"binarize: mine cannot be shared by {folder.ranks.world} ranks; start it without torchrun")
    stages = tuple(stage.binarize for stage in config.stages)
    config.network.check(arch, stages, len(dataset.classes), dataset.image_size)
    fabric = make_fabric(config.device, config.precision, folder.ranks)
    folder.ranks.check_data(config.batch_size, dataset.train.pixels, dataset.train.labels)
    named = {"arch": arch} if isinstance(arch, str) else {"space": config.network.space, "genotype": arch.to_dict()}
    plain = {"verb": "train", **to_plain(config), **named, "found": dataset.identity()}
    teacher = None
    if config.teacher not in (None, PREVIOUS):
        teacher = load_teacher(config.teacher, fabric, dataset)
        if not folder.ranks.agree(teacher.network.state_dict().values()):
            raise UserError(f"teacher: {config.teacher} differs from rank to rank; give all of them the same training")
        plain["taught_by"] = fingerprint(config.teacher)
    folder.claim(plain, resume=resume, defaults=to_plain(TrainConfig()))
    if folder.has("result.json"):
        return dict(folder.read_json("result.json"))
    training = dataset.train.to(fabric.device)
    kept, held = split(training.labels.cpu(), config.validation, config.seed)
    parts = (training.subset(kept.to(fabric.device)), training.subset(held.to(fabric.device)))
    if not isinstance(arch, str):
        folder.write_json("genotype.json", arch.to_dict())
    display = display.into(folder / "log.txt")
    if parts[0].labels.numel() < config.batch_size:
        display.say(
            f"The set has {len(parts[0])} images, fewer than a batch of {config.batch_size}: one batch an epoch."
        )

    def build(index: int, carry: Any) -> Task:
        if config.stages[index].kind == "mine":
            return _MiningTask(config, index, arch, dataset, parts, fabric, folder.ranks, carry)
        teaches = teacher
        if config.teacher == PREVIOUS and index > 0:
            shape = len(dataset.classes), stages[index - 1], dataset.image_size
            before = config.network.build(arch, *shape, carry)
            teaches = Teacher(before, fabric, dataset, dataset.mean, dataset.std)
        return _TrainTask(config, index, arch, dataset, parts, fabric, folder.ranks, carry, teaches)

    task = Loop(folder, display, config.seed, [partial(build, index) for index in range(len(stages))]).run()
    assert isinstance(task, _TrainTask)
    return _finish(task, dataset, folder, display, test=test)


def _finish(task: _TrainTask, dataset: Dataset, folder: RunFolder, display: Display, *, test: bool) -> dict[str, Any]:
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
