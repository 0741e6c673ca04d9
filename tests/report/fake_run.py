"""A run folder as a demo leaves it, with plausible numbers."""

import math
import random
from pathlib import Path

from binarch.runs import RunFolder
from binarch.spaces.genotype import PRIMITIVES, Cell, Edge, Genotype
from binarch.spaces.published import published

OPERATIONS = [
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
]  # fmt: skip


def random_genotype(seed: int, nodes: int = 4) -> Genotype:
    """A genotype with any primitive anywhere, parallel edges and dead inputs included."""
    chance = random.Random(seed)

    def edge(state: int) -> Edge:
        return Edge(chance.choice(PRIMITIVES), chance.randrange(state))

    def cell() -> Cell:
        states = range(2, nodes + 2)
        concat = sorted(chance.sample(states, chance.randint(1, nodes)))
        return Cell(tuple((edge(state), edge(state)) for state in states), tuple(concat))

    return Genotype(cell(), cell())


def search_rows(epochs: int) -> list[dict]:
    """Search epochs: weights sharpen, accuracy grows, a second stage drops two operations."""
    chance = random.Random(1)
    logits = {cell: [[chance.gauss(0, 1.6) for _ in OPERATIONS] for _ in range(14)] for cell in ("normal", "reduce")}
    rows = []
    for epoch in range(epochs):
        progress = (epoch + 1) / epochs
        row = {
            "phase": "search", "seed": 0, "stage": int(progress > 0.5), "epoch": epoch, "seconds": 41.5,
            "stage_name": "search" if progress <= 0.5 else "shrunk <script>alert(1)</script>",
            "images_per_second": 812.0, "lr": 0.0125 * (1 + math.cos(math.pi * progress)),
            "train_loss": 2.2 - 1.3 * progress**0.6 + chance.gauss(0, 0.02),
            "train_accuracy": 0.2 + 0.5 * progress**0.5,
            "validation_loss": 2.2 - 1.1 * progress**0.6 + chance.gauss(0, 0.04),
            "validation_accuracy": 0.2 + 0.43 * progress**0.5 + chance.gauss(0, 0.01),
            "entropy_max": math.log(len(OPERATIONS)),
            "parameter_free_normal": 0.125 * round(4 * (1 - progress)), "parameter_free_reduce": 0.625,
        }  # fmt: skip
        for cell, edges in logits.items():
            weights = [[math.exp(progress * value) for value in edge] for edge in edges]
            weights = [[value / sum(edge) for value in edge] for edge in weights]
            row[f"alphas_{cell}"] = weights
            row[f"operations_{cell}"] = [OPERATIONS] * 14
            row[f"entropy_{cell}"] = -sum(p * math.log(p) for edge in weights for p in edge) / 14
        rows.append(row)
    return rows


def train_rows(epochs: int) -> list[dict]:
    """Training epochs in two stages; validation every second epoch."""
    rows = []
    for epoch in range(epochs):
        binary = epoch >= epochs // 2
        progress = (epoch % (epochs // 2) + 1) / (epochs // 2)
        row = {
            "phase": "train", "stage": int(binary),
            "stage_name": ["binary activations", "binary weights"][binary],
            "epoch": epoch, "seconds": 33.0, "images_per_second": 1490.0,
            "lr": 0.0005 * (1 + math.cos(math.pi * progress)),
            "train_loss": (1.3 if binary else 1.9) - 0.8 * progress**0.5,
            "train_accuracy": (0.58 if binary else 0.35) + 0.3 * progress**0.5,
        }  # fmt: skip
        if epoch % 2:
            row["validation_loss"] = row["train_loss"] + 0.08
            row["validation_accuracy"] = row["train_accuracy"] - 0.03
        rows.append(row)
    return rows


def write_demo(path: Path) -> Path:
    """Write the demo run into ``path``."""
    run = RunFolder(path)
    final = published("pdarts")
    environment = {
        "date": "2025-03-01T12:00:00+00:00",
        "python": "3.12.1",
        "cpu": "A <b>fast</b> one",
        "gpu": None,
    }
    run.write_json("config.json", {"verb": "demo", "space": "bats", "out": "runs/<script>alert(2)</script>"})
    run.write_json("env.json", environment)
    run.write_json("result.json", {"warnings": ["Validation is a split of the training set <script>"]})

    search = run.child("search")
    data = {"name": "cifar10", "classes": 10, "augmentation": {"flip": True, "crop": 4}}
    settings = {"epochs": 20, "batch_size": 64, "lr": 0.025, "temperature": 0.2}
    search.write_json("config.json", {"verb": "search", "space": "bats", "seed": 0, "data": data, "search": settings})
    search.write_metrics(search_rows(20))
    for epoch in range(20):
        found = final if epoch > 16 else random_genotype(epoch // 2)
        search.write_json(f"genotypes/epoch_{epoch:03d}.json", found.to_dict())
    search.write_json("genotype.json", final.to_dict())
    names = ["pdarts", "darts-v2", "pc-darts"]
    candidates = [
        {"name": f"candidate-{k}", "validation_accuracy": 0.71 - 0.03 * k, "params": 812_345 + 9000 * k,
         "seed": k,
         "genotype": published(name).to_dict()}
        for k, name in enumerate(names)
    ]  # fmt: skip
    search.write_json("result.json", {"search_seconds": 8040.0, "candidates": candidates, "selected": "candidate-0"})
    search.child("seed-0").write_json("config.json", {"verb": "search", "seed": 0})
    search.child("seed-0").write_json("result.json", {"validation_accuracy": 0.634})

    train = run.child("train")
    train.write_json("config.json", {"verb": "train", "space": "bats", "train": {"epochs": 30, "lr": 0.001}})
    train.write_json("genotype.json", final.to_dict())
    train.write_metrics(train_rows(30))
    costs = {"params": 3_421_000, "macs": 98_000_000, "binary_macs": 93_100_000, "float_macs": 4_900_000,
             "bytes_packed": 611_000}  # fmt: skip
    train.write_json(
        "result.json",
        {"test_accuracy": 0.9134, "validation_accuracy": 0.8871, "train_seconds": 1000.0, "costs": costs,
         "classes": ["airplane", "<script>alert('cat')</script>", "ship"]},
    )  # fmt: skip
    (train / "report.html").write_text("<!DOCTYPE html><title>train</title>")
    return path
