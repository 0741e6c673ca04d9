"""The campaigns: the runs at the paper's scale, and what two cores can do, in the order in which they are wanted."""

from dataclasses import dataclass
from typing import Literal, final

from binarch.reproduce import ROWS

#: paper: days of a GPU; cpu: hours of two cores.
Scale = Literal["paper", "cpu"]
SEEDS = (0, 1, 2)
#: Epochs a stage of the final training: the points of the curve.
LENGTHS = (10, 30, 100)


@final
@dataclass(frozen=True)
class Job:
    """One call of ``binarch``, and what it is good for.

    In ``arguments``, ``{out}`` stands for the campaign's folder, ``{data}`` for the folder of the images, and
    ``{best}`` for the run folder of the best of ``needs``, each judged by its own figure.
    """

    name: str
    goal: str
    """In words."""
    arguments: tuple[str, ...]
    """A verb and its flags."""
    folder: str
    """The run folder, inside the campaign's: where ``result.json`` is in the end."""
    needs: tuple[str, ...] = ()
    """Names of jobs that must be done before."""
    figure: str | None = "test_accuracy"
    """The key of ``result.json`` that tells how good it is: a share, more is better. None: nothing is measured."""
    published: float | None = None
    """The published figure, in percent."""
    images: str = "cifar10"
    """The set of images."""
    epochs_a_stage: int | None = None
    """Makes the job a point of the curve."""
    ranks: int = 1
    """Processes that share it, each of as many threads as ``OMP_NUM_THREADS`` says, or one."""

    @property
    def command(self) -> str:
        """What a person would type."""
        program = f"torchrun --nproc-per-node {self.ranks} -m binarch" if self.ranks > 1 else "binarch"
        return " ".join((program, *self.arguments))

    @property
    def takes_weights(self) -> bool:
        """Whether it reads the network of ``{best}``, and not only its cells."""
        return not {"--teacher", "--proxy"}.isdisjoint(self.arguments)


def _run(name: str, goal: str, verb: str, flags: str, **about: object) -> Job:
    """A search or a training in the folder of its name."""
    places = ("--data", "{data}", "--out", f"{{out}}/{name}", "--resume", "auto")
    return Job(name, goal, (verb, *flags.split(), *places), name, **about)  # type: ignore[arg-type]


def _searches() -> list[Job]:
    found = [
        _run(
            f"bats-{seed}", f"a cell by the recipe's search, seed {seed}",
            "search", f"--recipe cifar10 --strategy bats --seed {seed}",
            figure="derived_validation_accuracy",
        )
        for seed in SEEDS
    ]  # fmt: skip
    drawn = [
        _run(
            f"random-{seed}", f"a random cell, to compare with: one draw, no training, seed {seed}",
            "search", f"--recipe cifar10 --strategy random --candidates 1 --seed {seed}", figure=None,
        )
        for seed in SEEDS
    ]  # fmt: skip
    return [*found, *drawn]


def _short(cell: str) -> Job:
    """The training by which ``binarch search`` ranks cells; alone among them, cells of one search are not ranked."""
    return _run(
        f"short-{cell}", f"how good {cell} is: the ranking's short training, judged by held-out images", "train",
        "--arch {best} --dataset cifar10 --cells 8 --channels 24 --groups 12 --binarize both --epochs 25 "
        "--batch-size 64 --validation 0.5 --seed 0",
        needs=(cell,), figure="validation_accuracy",
    )  # fmt: skip


def _table1() -> list[Job]:
    """A first training of every line, the methods' own recipes before the common one."""
    return [
        Job(
            f"table1-{row.name}-{recipe}", f"Table 1, {row.method} {row.bits}: {recipe} recipe, first seed",
            ("reproduce", "table1", "--budget", "paper", "--rows", row.name, "--recipes", recipe, "--seeds", "1",
             "--data", "{data}", "--out", "{out}/table1"),
            f"table1/{row.name}-{recipe}-0", published=row.published,
        )
        for recipe in ("own", "common") for row in ROWS.values() if recipe in row.recipes
    ]  # fmt: skip


def _two_cores(
    name: str, goal: str, flags: str, needs: tuple[str, ...] = (), ranks: int = 2, precision: str = "bf16"
) -> Job:
    """A training that takes hours of two cores: the recipe that results/log.md came to."""
    common = (
        f"--precision {precision} --batch-size 128 --schedule linear --flip alternating --crop-fill reflect "
        "--validation 0.02 --seed 0"
    )
    return _run(name, goal, "train", f"{flags} {common}", needs=needs, ranks=ranks)


def _cpu() -> tuple[Job, ...]:
    one_bit = "--scheme standardised --binarize both --learning-rate 5e-3"
    cell = "--arch results/table2/bats-2.5m-binary-search --stem half --channels 32 --groups 1"
    real = (
        "--arch vgg-small --width 48 --binarize none --whiten --optimizer muon --learning-rate 1e-2 --weight-decay 0.1"
    )
    return (
        _two_cores(
            "dense", "a dense network of one bit, within three hours: 90 % or more",
            f"--arch reactnet-small --width 96 {one_bit} --label-smoothing 0.1 --epochs 40 --crop-padding 3",
            ranks=1,
        ),
        _two_cores(
            "cells", "a searched cell network of one bit, within three hours: 86 % or more",
            f"{cell} --cells 4 {one_bit} --label-smoothing 0.1 --epochs 24",
        ),
        _two_cores(
            "vgg", "VGG-small, to ship beside them: 20 minutes",
            f"--arch vgg-small --width 48 {one_bit} --label-smoothing 0.1 --epochs 16",
        ),
        _two_cores(
            "teacher", "a real-valued VGG-small, to teach the next: half an hour of one core",
            f"{real} --epochs 14", ranks=1,
        ),
        _two_cores(
            "fine", "a dense network of one bit with a teacher, within three hours both: 90 % or more",
            f"--arch reactnet-fine --width 48 {one_bit} --teacher {{best}} --epochs 41",
            needs=("teacher",),
        ),
        _two_cores(
            "teacher-float32", "the same again in float32, its weights in the repository: 54 minutes of two cores",
            f"{real} --epochs 14", precision="auto",
        ),
        _two_cores(
            "cells-taught", "three such cells, with a teacher and whitened, within three hours both: 86 % or more",
            f"{cell} --cells 3 {one_bit} --teacher {{best}} --whiten --epochs 18", needs=("teacher-float32",),
            precision="auto",
        ),
        _two_cores(
            "fine-whitened", "the dense network again, whitened, longer steps, within three hours both: 90 % or more",
            "--arch reactnet-fine --width 48 --scheme standardised --binarize both --learning-rate 2e-2 "
            "--teacher {best} --whiten --epochs 41",
            needs=("teacher-float32",),
        ),
    )  # fmt: skip


def campaign(scale: Scale = "paper") -> tuple[Job, ...]:
    """All jobs, in order."""
    return _cpu() if scale == "cpu" else _paper()


def _paper() -> tuple[Job, ...]:
    searches = _searches()
    judges = tuple(f"short-bats-{seed}" for seed in SEEDS)
    final_training = "--arch {best} --recipe cifar10 --cells 20 --channels 36 --groups 12 --seed 0"
    return (
        *searches,
        *(_short(job.name) for job in searches),
        *(
            _run(
                f"final-{epochs}", f"the best found cell, {epochs} epochs a stage: 96.1 % or more, last epoch", "train",
                f"{final_training} --epochs {epochs} {epochs}",
                needs=judges, published=96.1, epochs_a_stage=epochs,
            )
            for epochs in LENGTHS
        ),
        *_table1(),
        _run(
            "real", "a real-valued cell by BATS' search, one seed",
            "search", "--recipe cifar10 --binarize none --learning-rate 0.1 --seed 0",
            figure="derived_validation_accuracy",
        ),
        _run(
            "real-3.5m", "the real-valued cell at 3.5 M parameters: error of 2.40 % or less", "train",
            "--arch {best} --dataset cifar10 --cells 20 --channels 40 --groups 10 --auxiliary --binarize none "
            "--epochs 600 --learning-rate 0.1 --weight-decay 3e-4 --optimizer sgd --batch-size 96 --drop-path 0.2 "
            "--cutout 16 --validation 0 --seed 0",
            needs=("real",), published=97.6,
        ),
        _run(
            "cifar100", "the best found cell on CIFAR-100: 76.8 %", "train",
            f"{final_training} --dataset cifar100 --epochs 100 100",
            needs=judges, published=76.8, images="cifar100",
        ),
    )  # fmt: skip
