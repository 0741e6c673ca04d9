"""The settings of a training."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal, final, get_args

from binarch.data import Augment, CropFill, DataConfig, Flip
from binarch.errors import UserError, choose
from binarch.models import NetworkConfig
from binarch.nn import Binarize, find_scheme
from binarch.training.device import Device, Precision
from binarch.training.loss import Loss
from binarch.training.schedule import Schedule


def _stage_name(kind: "StageKind", bits: tuple[int, int]) -> str:
    """What a stage trains, in words; ``bits`` are those of (weights, activations)."""
    if kind in ("none", "mine"):
        return "real-valued" if kind == "none" else "mining of interactions"
    if bits == (1, 1):
        return "binary activations" + " and weights" * (kind == "both")
    words = {1: "binary", 32: "real"}
    weights, activations = (words.get(count, f"{count}-bit") for count in bits)
    return f"{activations} activations, {weights if kind == 'both' else 'real'} weights"


#: What a stage does: train with a binarization; or, for CI-Net, look for interactions while weights stand still.
StageKind = Literal["none", "activations", "both", "mine"]


#: Who takes the steps.
Optimizer = Literal["adamw", "sgd", "nesterov", "shift_adamax", "muon"]


#: What ``torch.compile`` does; see its ``mode``.
Compile = Literal["no", "default", "reduce-overhead"]


_WORDS = {"optimizer": Optimizer, "loss": Loss, "precision": Precision, "device": Device, "compile": Compile}


#: As ``teacher``: the network that the stage before left.
PREVIOUS = "previous-stage"


@final
@dataclass(frozen=True)
class TrainStage:
    """One stage: what it does, how long and how fast it learns."""

    kind: StageKind
    epochs: int
    learning_rate: float
    weight_decay: float
    name: str
    """What the stage trains, in words."""

    @property
    def binarize(self) -> Binarize:
        """What carries few bits."""
        return "both" if self.kind == "mine" else self.kind


@final
@dataclass(frozen=True)
class TrainConfig:
    """How the network of a genotype, or one of the catalogue, is trained.

    ``binarize``, ``epochs``, ``learning_rate`` and ``weight_decay`` list one value per stage; a single value holds for
    all. Every stage starts from the weights of the one before, with a new optimizer and a new schedule.
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    binarize: tuple[StageKind, ...] = ("activations", "both")
    """What is quantized in each stage: none, activations, both; mine: of ci-net."""
    epochs: tuple[int, ...] = (20,)
    """Epochs of each stage."""
    learning_rate: tuple[float, ...] = (1e-3,)
    """Learning rate at the start of each stage."""
    weight_decay: tuple[float, ...] = (0.0,)
    """Weight decay of each stage."""
    optimizer: Optimizer = "adamw"
    """adamw; sgd with momentum 0.9, or nesterov; shift_adamax of BNN's Torch7 code; muon."""
    schedule: str = "cosine"
    """cosine, linear, exponential:F (to F of the rate), steps:F@S,S (times F at shares S of a stage)."""
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.0
    """cross_entropy or squared_hinge; share of the target that is spread over all classes."""
    teacher: str | None = None
    teacher_weight: float = 0.5
    teacher_temperature: float = 4.0
    """Teacher: a run folder or previous-stage; share of its loss; temperature."""
    proxy: str | None = None
    keep: float = 1.0
    """Run folder whose network says which images are hard; share of the hardest to learn from."""
    whiten: bool = False
    """Begin with a first layer that makes the numbers of image patches uncorrelated."""
    batch_size: int = 96
    """Images per step."""
    drop_path: float = 0.0
    auxiliary_weight: float = 0.4
    """Largest chance of dropping an edge, grows linearly from 0; weight of the auxiliary loss."""
    clip: float = 5.0
    """Largest norm of the gradient."""
    average: int = 0
    recalibrate: int = 0
    """Keep the weights' average over so many steps; at the end, take norms' statistics anew (batches)."""
    crop_padding: int = 4
    crop_fill: CropFill = "black"
    """Pixels of padding for the random crop (0: none); what they show: black, or reflect."""
    flip: Flip = "random"
    cutout: int = 0
    """Mirror none, half at random, or (alternating) all in every second epoch; square cut out."""
    validation: float = 0.1
    """Share of the training images held out for validation; 0 trains on all."""
    precision: Precision = "auto"
    device: Device = "auto"
    compile: Compile = "no"
    """Number format: 32, bf16, fp16; cpu, cuda; torch.compile: default, reduce-overhead."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        if not self.binarize:
            raise UserError("binarize: no stage is given; name at least one of none, activations, both")
        for kind in self.binarize:
            choose("binarize", kind, get_args(StageKind))
        for name, words in _WORDS.items():
            choose(name, getattr(self, name), get_args(words))
        for name in ("epochs", "learning_rate", "weight_decay"):
            per_stage(name, getattr(self, name), len(self.binarize))
        require(self.batch_size >= 2, "batch_size", self.batch_size, "2 or more")
        require(all(n >= 1 for n in self.epochs), "epochs", self.epochs, "1 or more in each stage")
        require(all(rate > 0 for rate in self.learning_rate), "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.validation < 1, "validation", self.validation, "from 0 to below 1")
        require(0 <= self.drop_path < 1, "drop_path", self.drop_path, "from 0 to below 1")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "from 0 to below 1")
        require(self.clip > 0, "clip", self.clip, "above 0")
        require(all(decay >= 0 for decay in self.weight_decay), "weight_decay", self.weight_decay, "0 or more")
        require(self.auxiliary_weight >= 0, "auxiliary_weight", self.auxiliary_weight, "0 or more")
        require(self.average >= 0, "average", self.average, "0 (off) or more steps")
        require(self.recalibrate >= 0, "recalibrate", self.recalibrate, "0 (off) or more batches")
        Schedule.parse(self.schedule)
        if "mine" in self.binarize:
            inside = self.binarize[0] == self.binarize[-1] == "both"
            if self.network.scheme != "ci-net" or not inside or "activations" in self.binarize:
                raise UserError(
                    f"binarize: {' '.join(self.binarize)} is not possible with {self.network.scheme}; mining needs "
                    "--scheme ci-net and stands between two stages: both mine both"
                )
        require(0 < self.teacher_weight <= 1, "teacher_weight", self.teacher_weight, "above 0 to 1")
        require(0 < self.teacher_temperature < inf, "teacher_temperature", self.teacher_temperature, "above 0, finite")
        require(0 < self.keep <= 1, "keep", self.keep, "above 0 to 1")
        if (self.proxy is None) != (self.keep == 1):
            raise UserError(
                f"proxy, keep: {self.proxy}, {self.keep:g} is not possible; give the folder of a training and a share "
                "below 1, or neither"
            )
        require(self.proxy != "", "proxy", '""', "the folder of a training")
        require(self.teacher != "", "teacher", '""', "the folder of a training, or previous-stage")
        if self.teacher == PREVIOUS and len(self.binarize) == 1:
            raise UserError(f"teacher: {PREVIOUS} needs two stages or more; give the folder of a training")
        if self.teacher is not None and self.loss != "cross_entropy":
            raise UserError(f"teacher: cannot be had with {self.loss}; use --loss cross_entropy")
        if self.compile != "no" and self.drop_path:
            raise UserError(f"compile: {self.compile} is not possible with drop_path, which changes; use --compile no")
        if self.loss == "squared_hinge" and self.label_smoothing:
            raise UserError(f"label_smoothing: {self.label_smoothing} is for cross_entropy; squared_hinge has none")
        if self.optimizer == "shift_adamax" and any(self.weight_decay):
            raise UserError(f"weight_decay: {self.weight_decay} is not possible with shift_adamax; use 0")
        self.augment  # noqa: B018 (refuses negative sizes and unknown words)

    @property
    def stages(self) -> tuple[TrainStage, ...]:
        """The stages, one object each."""
        count = len(self.binarize)
        columns = (per_stage(n, getattr(self, n), count) for n in ("epochs", "learning_rate", "weight_decay"))
        bits = find_scheme(self.network.scheme).bits
        names = (_stage_name(kind, bits) for kind in self.binarize)
        return tuple(TrainStage(*values) for values in zip(self.binarize, *columns, names, strict=True))

    @property
    def augment(self) -> Augment:
        """The augmentation of training images."""
        return Augment(self.crop_padding, self.flip, self.cutout, self.crop_fill)


def per_stage(name: str, values: tuple, count: int) -> tuple:
    """``values`` for ``count`` stages; one value stands for all."""
    if len(values) not in (1, count):
        allowed = f"one, or {count}" if count > 1 else "one"
        raise UserError(f"{name}: {len(values)} values for {count} stage{'s' * (count > 1)}; give {allowed}")
    return values * count if len(values) == 1 else values


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise a :class:`UserError` unless ``condition``."""
    if not condition:
        raise UserError(f"{name}: {value} is not possible; use {allowed}")
