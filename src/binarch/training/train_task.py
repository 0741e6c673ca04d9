"""One stage of a training: a network learns."""

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from binarch.data import Batches, Dataset, Images, derive_seed, evaluation_batches
from binarch.models import Architecture, ScheduledDropPath
from binarch.nn import parameter_groups, settle
from binarch.ranks import Ranks
from binarch.training.average import weight_average
from binarch.training.config import TrainConfig, TrainStage
from binarch.training.device import suit_
from binarch.training.health import Health
from binarch.training.loop import Task
from binarch.training.loss import distillation, loss_of
from binarch.training.muon import Muon
from binarch.training.recalibrate import recalibrate
from binarch.training.schedule import Schedule
from binarch.training.shift_adamax import ShiftAdaMax
from binarch.training.stage import copy_of, judge, record
from binarch.training.teacher import Teacher
from binarch.training.whitening import whiten_

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@final
class TrainTask(Task):
    """One stage of a training."""

    def __init__(
        self,
        config: TrainConfig,
        index: int,
        arch: Architecture,
        dataset: Dataset,
        parts: tuple[Images, Images],
        fabric: "Fabric",
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
        if config.whiten and weights is None:
            whiten_(self.plain, parts[0], dataset.mean, dataset.std)
        self.plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.optimizer = fabric.setup(self._learner(), _optimizer(self.plain, config, stage))
        self.average = weight_average(self.plain, config.average) if config.average else None
        #: What is validated, kept and handed on: the average of the weights, or the weights themselves.
        self.result = self.plain if self.average is None else self.average.module
        separate = self.average is not None or config.compile != "no"
        self.judged = fabric.setup_module(self.result) if separate else self.network
        self.health = Health(self.plain)

    def _learner(self) -> nn.Module:
        """The network as it trains."""
        suit_(self.plain, self.fabric, self.ranks.part(self.batches.get(0, 0)[0]))
        if self.config.compile == "no":
            return self.plain
        made: nn.Module = torch.compile(self.plain, dynamic=False, mode=self.config.compile)  # type: ignore[assignment]
        return made

    def step(self, epoch: int, step: int) -> Tensor:
        """Learn from one batch."""
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
        """Close an epoch: its row for ``metrics.jsonl``."""
        row = record(self.config, self.index, epoch, sums)
        row["lr"] = self.schedule.at(self.stage.learning_rate, epoch / self.epochs)
        if self.average is not None and len(self.validation):
            row["validated"] = "average of the weights"
        row |= judge(self.judged, self.validation, self.dataset, self.config.loss, self.ranks)
        row |= self.health.row(self._looked_at())
        self.health.begin_epoch()
        return row

    def _looked_at(self) -> Tensor:
        """One batch of images that stays the same: held out where there are such."""
        images = self.validation if len(self.validation) else self.training
        batch, _ = next(iter(evaluation_batches(images, self.dataset.mean, self.dataset.std, self.batch_size)))
        return batch.contiguous(memory_format=torch.channels_last)

    def state(self) -> dict[str, Any]:
        """What was learned, with the optimizer's state."""
        learned = {"network": self.plain.state_dict(), "optimizer": self.optimizer.state_dict()}
        learned |= {} if self.average is None else {"average": self.average.state_dict()}
        return learned | {"health": self.health.state(), "precision": self.fabric.strategy.precision.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self.plain.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.health.load_state(state["health"])
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))  # of fp16's scaler

    def carry(self) -> dict[str, Tensor]:
        """The weights that the next stage starts from."""
        return copy_of(self.result)

    def recalibrate(self) -> dict[str, float]:
        """Take the statistics of batch norms anew, if asked for; return what the held-out images say then."""
        count = self.config.recalibrate
        if not count:
            return {}
        recalibrate(self.result, self.judged, self.batches, self.epochs, count, self.ranks)
        return judge(self.judged, self.validation, self.dataset, self.config.loss, self.ranks)


def _gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def _statistics(network: nn.Module) -> list[Tensor]:
    """What layers gather while training, such as running means."""
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]


def _optimizer(network: nn.Module, config: TrainConfig, stage: TrainStage) -> torch.optim.Optimizer:
    groups = parameter_groups(network, stage.learning_rate, stage.weight_decay, matrices=config.optimizer == "muon")
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    if config.optimizer == "muon":
        return Muon(groups)
    if config.optimizer == "shift_adamax":
        return ShiftAdaMax(groups, stage.learning_rate)
    return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=0.9, nesterov=config.optimizer == "nesterov")
