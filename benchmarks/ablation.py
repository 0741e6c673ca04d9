"""What each piece of a recipe does alone, and a few together: as many images seen, seeds side by side.

    python benchmarks/ablation.py --data PATH --out results/ablation

A small network (`reactnet-small`, 1/1 bits, standardised signs) is trained plainly and once more for each piece, with
each seed; held-out training images judge, the test images are not read. Differences are taken within a seed: from the
plain training with the same start, the same held-out images and, but for harder halves and second stages, the same
order. What is finished is read back and what was stopped continues, so a process per core can share the work: with
`OMP_NUM_THREADS=1`, `--seeds 0` beside `--seeds 1`, then once more with both for the table.
"""

import json
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from binarch.data import DataConfig, Dataset, load
from binarch.models import NetworkConfig
from binarch.nn import SignGradient
from binarch.runs import RunFolder, environment, write_atomic
from binarch.training import Display, TrainConfig, train
from binarch.training.device import Precision

ARCH = "reactnet-small"
#: The training that teaches, and that says which images are hard: the same network, real-valued.
REAL = "real"
PLAIN = "plain"


@dataclass
class Study:
    """Where the data lie, where the results go, and how large it is."""

    out: Path
    data: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 10
    limit: int = 25_000
    """Training images, a fifth of which is held out."""
    width: int = 32
    precision: Precision = "32"
    dataset: str = "cifar10"


def pieces(study: Study, real: str) -> dict[str, dict[str, Any]]:
    """What each training changes; ``real`` is the folder of the real-valued one."""
    fifth, half = study.epochs // 5, study.epochs // 2
    together = {"teacher": real, "whiten": True, "crop_fill": "reflect"}
    stages = ("activations", "both")

    def method(name: str, gradient: SignGradient = "scheme") -> dict[str, Any]:
        changed = replace(_plain(study).network, scheme=name, where="inner", sign_gradient=gradient)
        return {"network": changed}

    return {
        PLAIN: {},
        "alternating flips": {"flip": "alternating"},
        "reflected crops": {"crop_fill": "reflect"},
        "no crops": {"crop_padding": 0},
        "cutout of 8": {"cutout": 8},
        "label smoothing of 0.1": {"label_smoothing": 0.1},
        "whitened first layer": {"whiten": True},
        "Muon": {"optimizer": "muon"},
        "averaged weights": {"average": 100, "recalibrate": 20},
        "recalibrated norms": {"recalibrate": 20},
        "a real-valued teacher": {"teacher": real},
        "a real-valued teacher and no labels": {"teacher": real, "teacher_weight": 1.0},
        "the harder half, twice as often": {"proxy": real, "keep": 0.5, "epochs": (2 * study.epochs,)},
        "activations first, half of the epochs": {"binarize": stages, "epochs": (half, study.epochs - half)},
        "activations first, a fifth of the epochs": {"binarize": stages, "epochs": (fifth, study.epochs - fifth)},
        "sign gradients of a window": method("standardised", "window"),
        "BATS' filters, sign gradients of a window": method("bats"),
        "BATS' filters, polynomial sign gradients": method("bats", "polynomial"),
        "XNOR-Net's binarizers": method("xnor-net"),
        "BNN's binarizers": method("bnn"),
        "BNN's binarizers, half the rate": method("bnn") | {"learning_rate": (2.5e-3,)},
        "BNN's binarizers, twice the rate": method("bnn") | {"learning_rate": (1e-2,)},
        "twice the rate": {"learning_rate": (1e-2,)},
        "four times the rate": {"learning_rate": (2e-2,)},
        "weight decay of 0.5": {"weight_decay": (0.5,)},
        "teacher, whitened, reflected": together,
        "BNN's binarizers, teacher, whitened, reflected": method("bnn") | together,
    }


def _plain(study: Study) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(dataset=study.dataset, data=study.data, limit=study.limit),
        network=NetworkConfig(scheme="standardised", width=study.width), binarize=("both",), epochs=(study.epochs,),
        learning_rate=(5e-3,), schedule="linear", batch_size=128, validation=0.2, device="cpu",
        precision=study.precision,
    )  # fmt: skip


def main(study: Study) -> None:
    """Train what is missing, then write the table."""
    if study.epochs < 5:
        print(
            f"ablation: --epochs {study.epochs}: is too few to be divided into stages; give 5 or more", file=sys.stderr
        )
        sys.exit(2)
    display, dataset = Display(), load(_plain(study).data)
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in study.seeds:
        real = study.out / f"{REAL}-{seed}"
        base = replace(_plain(study), seed=seed)
        _train(real, replace(base, binarize=("none",)), dataset, display)
        for name, changes in pieces(study, str(real)).items():
            folder = study.out / f"{_slug(name)}-{seed}"
            found.setdefault(name, []).append(_train(folder, replace(base, **changes), dataset, display))
    page = _page(study, found)
    write_atomic(study.out / "README.md", page.encode())
    figures = {name: [run["validation_accuracy"] for run in runs] for name, runs in found.items()}
    told = {"env": environment(), "seeds": study.seeds, "validation_accuracy": figures}
    write_atomic(study.out / "ablation.json", (json.dumps(told, indent=1) + "\n").encode())
    print(page)


def _train(folder: Path, config: TrainConfig, dataset: Dataset, display: Display) -> dict[str, Any]:
    display.say(str(folder))
    return train(ARCH, config, dataset, RunFolder(folder), display, test=False, resume=True)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).replace("--", "-")


def _page(study: Study, found: dict[str, list[dict[str, Any]]]) -> str:
    held = round(study.limit / 5)
    lines = [
        "# Pieces of a recipe, one at a time and a few together",
        "",
        f"`{ARCH}` of width {study.width}, 1/1 bits, {study.limit - held:,} training images of {study.dataset},",
        f"{held:,} held out, {study.epochs} epochs, AdamW at 5e-3 falling linearly, batches of 128, random flips,",
        f"black crops of 4, precision {study.precision}. Accuracies in percent, after the last epoch, of seeds",
        f"{', '.join(map(str, study.seeds))}; the difference from plain is taken seed by seed. Written by",
        "`benchmarks/ablation.py`. Training images: what is correct within the last epoch, augmented; in the row of",
        "the harder half of hard ones only.",
        "",
        "| what is changed | held-out, mean ± sd | minus plain, mean ± sd | each seed | training images | minutes |",
        "|---|---:|---:|---|---:|---:|",
    ]  # fmt: skip
    plain = [100 * run["validation_accuracy"] for run in found[PLAIN]]
    for name, runs in sorted(found.items(), key=lambda item: -_mean(item[1], "validation_accuracy")):
        scores = [100 * run["validation_accuracy"] for run in runs]
        apart = [score - other for score, other in zip(scores, plain, strict=True)]
        lines.append(
            f"| {name} | {_spread(scores)} | {'-' if name == PLAIN else _spread(apart, sign='+')} | "
            f"{', '.join(f'{score:.1f}' for score in scores)} | {100 * _mean(runs, 'train_accuracy'):.1f} | "
            f"{_mean(runs, 'train_seconds') / 60:.1f} |"
        )
    return "\n".join([*lines, ""])


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


def _spread(values: list[float], sign: str = "") -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.2f}{deviation}"


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
