"""The stage between two others in which interactions are looked for."""

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from binarch.data import Batches, Dataset, Images, derive_seed
from binarch.models import Architecture
from binarch.ranks import Ranks
from binarch.training.config import TrainConfig
from binarch.training.loop import Task
from binarch.training.mining import Miner
from binarch.training.stage import copy_of, judge, record

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@final
class MiningTask(Task):
    """Between two stages of CI-BCNN: edges are looked for, weights stand still."""

    def __init__(
        self, config: TrainConfig, index: int, arch: Architecture, dataset: Dataset, parts: tuple[Images, Images],
        fabric: "Fabric", ranks: Ranks, weights: dict[str, Tensor],
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
        """Look for interactions on one batch."""
        x, y = self.batches.get(epoch, step)
        number = epoch * self.steps + step
        loss, logits = self.miner.step(number, x.contiguous(memory_format=torch.channels_last), y)
        correct = (logits.argmax(1) == y).sum()
        return torch.stack([loss.double() * len(y), correct.double(), correct.new_tensor(len(y)).double()])

    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        """Close an epoch: its row for ``metrics.jsonl``."""
        row = record(self.config, self.index, epoch, sums)
        row |= {"edges": self.miner.edges, "actions_kept": self.miner.kept / self.miner.tried}
        return row | judge(self.plain, self.validation, self.dataset, self.config.loss, self.ranks)

    def state(self) -> dict[str, Any]:
        """What was found."""
        return {"network": self.plain.state_dict(), "miner": self.miner.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self.plain.load_state_dict(state["network"])
        self.miner.load_state(state["miner"])

    def carry(self) -> dict[str, Tensor]:
        """The weights that the next stage starts from."""
        return copy_of(self.plain)
