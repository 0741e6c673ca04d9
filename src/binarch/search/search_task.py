"""One stage of a gradient search, step by step.

Per step: one batch of the validation half moves the alphas down the gradient of its loss (Adam), at the current weights
(first order) or at those of the next step (second order, see ``second_order``); then one batch of the training half
moves the weights (SGD).
"""

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import Batches, Dataset, Images, derive_seed
from binarch.runs import RunFolder
from binarch.search.auxiliary_skip import auxiliary_skip_rate
from binarch.search.beta_decay import beta_rate, beta_regularizer
from binarch.search.config import SearchConfig
from binarch.search.derive import derive_cell, entropy, one_hot, parameter_free, shrink
from binarch.search.operations import EdgeOperations
from binarch.search.second_order import sgd_steps, unrolled_gradient
from binarch.search.skip_dropout import skip_dropout_rate
from binarch.search.supernet import Mixture, Supernet
from binarch.spaces import Genotype, Space
from binarch.training.device import suit_
from binarch.training.evaluate import evaluate
from binarch.training.loop import Task
from binarch.training.schedule import cosine

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Where the cosine of the weights' rate ends (DARTS).
FINAL_LEARNING_RATE = 0.001


def _rate(config: SearchConfig, progress: float) -> float:
    return cosine(config.learning_rate, min(FINAL_LEARNING_RATE, config.learning_rate), progress)


@final
class SearchTask(Task):
    """One stage of a search: a supernet and its two optimizers."""

    def __init__(
        self,
        config: SearchConfig,
        seed: int,
        index: int,
        dataset: Dataset,
        halves: tuple[Images, Images],
        fabric: "Fabric",
        folder: RunFolder,
        names: dict[str, list[list[str]]] | None,
    ) -> None:
        self.config, self.seed, self.index, self.dataset, self.folder = config, seed, index, dataset, folder
        self.stage = config.stages[index]
        count = len(config.stages)
        self.title = f"search seed {seed}" + (f" stage {index + 1}/{count}" if count > 1 else "")
        self.validation = halves[1]
        self.weight_batches, self.alpha_batches = (
            Batches(
                half,
                dataset.mean,
                dataset.std,
                config.batch_size,
                derive_seed(seed, index, purpose),
                config.augment,
            )
            for half, purpose in zip(halves, ("weights", "alphas"), strict=True)
        )
        self.epochs, self.steps = self.stage.epochs, min(len(self.weight_batches), len(self.alpha_batches))
        self.batch_size = self.weight_batches.batch_size
        self.fabric, self.ranks = fabric, folder.ranks
        for batches in (self.weight_batches, self.alpha_batches):
            self.ranks.check_batch(batches.batch_size)
        self.supernet = self._supernet(names)
        suit_(self.supernet, fabric, self.ranks.part(self.weight_batches.get(0, 0)[0]))
        self.weights = self.supernet.weight_parameters()
        sgd = torch.optim.SGD(self.weights, lr=config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
        adam = torch.optim.Adam(
            self.supernet.architecture_parameters(),
            lr=config.alpha_learning_rate,
            betas=(0.5, 0.999),
            weight_decay=config.alpha_weight_decay,
        )
        self.network, self.sgd, self.adam = fabric.setup(self.supernet, sgd, adam)

    def _supernet(self, names: dict[str, list[list[str]]] | None) -> Supernet:
        space: Space = self.config.build_space()
        full = EdgeOperations.full(space.rules)
        operations = {
            kind: full if names is None else EdgeOperations(full.nodes, tuple(tuple(ops) for ops in names[kind]))
            for kind in ("normal", "reduce")
        }
        torch.manual_seed(derive_seed(self.seed, self.index, "supernet"))
        supernet = Supernet(
            space,
            operations,
            channels=self.config.channels,
            cells=self.stage.cells,
            classes=len(self.dataset.classes),
            temperature=self.config.softmax_temperature,
            partial=self.config.partial,
            auxiliary_skip=self.config.auxiliary_skip,
        )
        return supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _begin(self, epoch: int) -> None:
        """Set what the supernet must know of the epoch; a resumed run may begin with its end."""
        rate = skip_dropout_rate(self.stage.skip_dropout, epoch, self.epochs, self.config.warmup_epochs)
        self.supernet.set_skip_dropout(rate)
        if self.config.auxiliary_skip:
            self.supernet.set_auxiliary_skip(auxiliary_skip_rate(epoch, self.epochs))

    def step(self, epoch: int, step: int) -> Tensor:
        """Move the alphas, but in warm-up epochs, then the weights."""
        self._begin(epoch)
        if epoch >= self.config.warmup_epochs:
            if self.config.second_order:
                self._unrolled_alpha_step(epoch, step)
            else:
                self._alpha_step(epoch, step)
        return self._weight_step(epoch, step)

    def _alpha_step(self, epoch: int, step: int) -> None:
        self.supernet.learn("alphas")
        loss = self._alpha_loss(epoch, step)
        self.adam.zero_grad()
        self.fabric.backward(loss)
        self._sum_gradients(self.supernet.architecture_parameters(), self.alpha_batches)
        self.adam.step()

    def _unrolled_alpha_step(self, epoch: int, step: int) -> None:
        """The alphas look at the loss that the weights will have after their next step on their next batch."""
        self.supernet.learn("both")
        alphas = self.supernet.architecture_parameters()
        seed = torch.initial_seed()

        def training_loss() -> Tensor:
            torch.manual_seed(seed)  # the same dropout in all passes: their difference is taken
            return self._loss(self.weight_batches, epoch, step) * self._share(self.weight_batches)

        gradients = unrolled_gradient(
            training_loss,
            lambda: self._alpha_loss(epoch, step) * self._share(self.alpha_batches),
            self.weights,
            alphas,
            sgd_steps(self.sgd, self.weights),
            _rate(self.config, (epoch + step / self.steps) / self.epochs),
            self.ranks.sum,
        )
        for parameter, gradient in zip(alphas, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        torch.manual_seed(seed)  # and in the step of the weights, which was looked ahead to

    def _alpha_loss(self, epoch: int, step: int) -> Tensor:
        loss = self._loss(self.alpha_batches, epoch, step)
        weight = beta_rate(self.config.beta_weight, epoch, self.epochs)
        if weight == 0:
            return loss
        return loss + weight * beta_regularizer([self.supernet.alphas_normal, self.supernet.alphas_reduce])

    def _share(self, batches: Batches) -> float:
        return self.ranks.share(batches.batch_size)

    def _sum_gradients(self, parameters: list[nn.Parameter], batches: Batches) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.ranks.sum_(gradients, self._share(batches))

    def _part(self, batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        x, y = batches.get(epoch, step)
        return self.ranks.part(x), self.ranks.part(y)

    def _loss(self, batches: Batches, epoch: int, step: int) -> Tensor:
        x, y = self._part(batches, epoch, step)
        return functional.cross_entropy(self.network(x.contiguous(memory_format=torch.channels_last)), y)

    def _weight_step(self, epoch: int, step: int) -> Tensor:
        self.supernet.learn("weights")
        x, y = self._part(self.weight_batches, epoch, step)
        rate = _rate(self.config, (epoch + step / self.steps) / self.epochs)
        for group in self.sgd.param_groups:
            group["lr"] = rate
        logits = self.network(x.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, y)
        self.sgd.zero_grad()
        self.fabric.backward(loss)
        self._sum_gradients(self.weights, self.weight_batches)
        self.fabric.clip_gradients(self.network, self.sgd, max_norm=self.config.clip, error_if_nonfinite=False)
        self.sgd.step()
        correct = (logits.detach().argmax(1) == y).sum()
        total = loss.detach().double()
        return torch.stack([total * len(y), correct.double(), torch.full_like(total, len(y))])

    def genotype(self) -> Genotype:
        """What the current mixture derives to."""
        mixture, operations = self.supernet.mixture(), self.supernet.operations
        return Genotype(
            derive_cell(mixture.normal, operations["normal"], self.config.max_skips),
            derive_cell(mixture.reduce, operations["reduce"]),
        )

    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        """Derive a genotype, write it to ``genotypes/``, and tell of the mixture on the validation half."""
        self._begin(epoch)
        loss, correct, count = sums
        genotype, shares, operations = self.genotype(), self.supernet.shares(), self.supernet.operations
        done = sum(stage.epochs for stage in self.config.stages[: self.index])
        self.folder.write_json(f"genotypes/epoch_{done + epoch:03d}.json", genotype.to_dict())
        score = evaluate(self.network, self.validation, self.dataset, ranks=self.ranks)
        return {
            "phase": "search",
            "seed": self.seed,
            "stage": self.index,
            "stage_name": f"stage {self.index + 1}" if len(self.config.stages) > 1 else "search",
            "epoch": epoch,
            "global_epoch": done + epoch,
            "lr": _rate(self.config, epoch / self.epochs),
            "train_loss": loss / count,
            "train_accuracy": correct / count,
            "validation_loss": score.loss,
            "validation_accuracy": score.accuracy,
            "entropy_normal": entropy(shares.normal),
            "entropy_reduce": entropy(shares.reduce),
            "entropy_max": float(torch.tensor(float(operations["normal"].width)).log()),
            "parameter_free_normal": parameter_free(genotype.normal),
            "parameter_free_reduce": parameter_free(genotype.reduce),
            "alphas_normal": [[round(w, 6) for w in row] for row in shares.normal.tolist()],
            "alphas_reduce": [[round(w, 6) for w in row] for row in shares.reduce.tolist()],
            "operations_normal": [list(ops) for ops in operations["normal"].names],
            "operations_reduce": [list(ops) for ops in operations["reduce"].names],
            **self._repairs(epoch),
        }

    def _repairs(self, epoch: int) -> dict[str, Any]:
        """What the repairs that are on were in this epoch."""
        told: dict[str, Any] = {}
        edges = self.supernet.edge_weights()
        if edges is not None:
            for kind, weights in zip(("normal", "reduce"), edges, strict=True):
                told[f"edge_weights_{kind}"] = [round(weight, 6) for weight in weights.tolist()]
        if self.config.auxiliary_skip:
            told["auxiliary_skip"] = self.supernet.auxiliary_weight
        if self.config.beta_weight:
            told["beta_weight"] = beta_rate(self.config.beta_weight, epoch, self.epochs)
        return told

    def derived_accuracy(self) -> float:
        """Accuracy on the validation half of the supernet with nothing but the derived edges, weights as they are.

        The distance to the mixture's accuracy is the discretization gap, which the temperature is meant to close.
        """
        genotype, operations = self.genotype(), self.supernet.operations
        mixture = Mixture(
            one_hot(genotype.normal, operations["normal"], self.supernet.alphas_normal),
            one_hot(genotype.reduce, operations["reduce"], self.supernet.alphas_reduce),
        )
        return evaluate(self.network, self.validation, self.dataset, ranks=self.ranks, mixture=mixture).accuracy

    def state(self) -> dict[str, Any]:
        """Weights, alphas and both optimizers."""
        return {
            "supernet": self.supernet.state_dict(), "sgd": self.sgd.state_dict(), "adam": self.adam.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        self.supernet.load_state_dict(state["supernet"])
        self.sgd.load_state_dict(state["sgd"])
        self.adam.load_state_dict(state["adam"])
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))  # of fp16's scaler

    def carry(self) -> dict[str, list[list[str]]]:
        """The candidates that survive this stage."""
        assert self.stage.keep is not None
        mixture, operations = self.supernet.mixture(), self.supernet.operations
        weights = {"normal": mixture.normal, "reduce": mixture.reduce}
        kept = {kind: shrink(weights[kind], operations[kind], self.stage.keep) for kind in weights}
        return {kind: [list(ops) for ops in kept[kind].names] for kind in kept}
