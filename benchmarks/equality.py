"""Packed against PyTorch on whole test sets: do trained networks give the same answers?

    python benchmarks/equality.py --data PATH --runs results/cifar10-cpu/random-train-0 --out results/equality

Each training run is packed, and so is a small VGG that is trained here. PyTorch's logits (evaluation, channels-last)
and the packed network's are compared on all test images. The same is done once more with an ordinary float32 stem in
PyTorch, to see what computing it in double is good for.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from binarch.data import Augment, Batches, Dataset, evaluation_batches, load
from binarch.deploy import pack_network, pack_run
from binarch.models import VggSmall
from binarch.nn import ExactConv2d, binarize_
from binarch.recipes import RECIPES
from binarch.runs import RunFolder, environment
from binarch.runtime import Network, Program
from binarch.training import load_network
from binarch.training.schedule import cosine


@dataclass
class Comparison:
    """What to compare and how long to train the VGG."""

    data: Path
    out: Path
    runs: tuple[Path, ...] = ()
    width: int = 32
    epochs: int = 2
    limit: int = 10000
    images: int | None = None
    """Test images (default: all)."""


def main(comparison: Comparison) -> None:
    """Compare, then write README.md and equality.json."""
    config = replace(RECIPES["cifar10-cpu"].train.data, data=comparison.data)
    rows = []
    for run in comparison.runs:
        folder = RunFolder(run)
        network, _ = load_network(folder)
        size = folder.read_json("result.json")["image_size"]
        rows.append(
            compare(
                f"cell network, {run.name}",
                network,
                pack_run(folder),
                load(replace(config, image_size=size)),
                comparison,
            )
        )
    dataset = load(replace(config, image_size=32, limit=comparison.limit))
    vgg = train_vgg(dataset, comparison)
    card = {"classes": list(dataset.classes)}
    program = pack_network(vgg, size=(32, 32), mean=dataset.mean, std=dataset.std, card=card)
    rows.append(compare(f"VGG-small, width {comparison.width}", vgg, program, dataset, comparison))
    comparison.out.mkdir(parents=True, exist_ok=True)
    (comparison.out / "equality.json").write_text(json.dumps({"rows": rows, "env": environment()}, indent=1) + "\n")
    (comparison.out / "README.md").write_text(page(rows))
    print(page(rows))


def train_vgg(dataset: Dataset, comparison: Comparison) -> nn.Module:
    """A small VGG with 1-bit weights and activations; Adam, cosine, crop and flip."""
    torch.manual_seed(0)
    network: nn.Module = VggSmall(width=comparison.width)
    binarize_(network, "bats")
    network = network.to(memory_format=torch.channels_last)
    batches = Batches(dataset.train, dataset.mean, dataset.std, 100, 0, Augment(4, "random", 0))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    total = comparison.epochs * len(batches)
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = cosine(2e-3, 0.0, step / total)
        x, y = batches.get(*divmod(step, len(batches)))
        loss = functional.cross_entropy(network(x.contiguous(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def compare(
    name: str, network: nn.Module, program: Program, dataset: Dataset, comparison: Comparison
) -> dict[str, Any]:
    """One row: how far apart the logits are, and whether the answers differ."""
    network.eval().to(memory_format=torch.channels_last)
    test = dataset.test()
    if comparison.images is not None:
        test = test.subset(torch.arange(comparison.images))
    packed = Network(program).run(test.pixels.permute(0, 2, 3, 1).numpy())
    truth = logits_of(network, dataset, test)
    plain = logits_of(with_plain_stems(network), dataset, test)
    labels = test.labels.numpy()

    def apart(logits: np.ndarray) -> dict[str, Any]:
        distance = np.abs(logits - truth).max(1) / np.abs(truth).max(1)
        return {
            "largest": float(distance.max()),
            "beyond_1e-4": int((distance > 1e-4).sum()),
            "other_answers": int((logits.argmax(1) != truth.argmax(1)).sum()),
        }

    return {
        "network": name,
        "images": len(test),
        "bytes": len(program.encode()),
        "accuracy_torch": float((truth.argmax(1) == labels).mean()),
        "accuracy_packed": float((packed.argmax(1) == labels).mean()),
        "packed": apart(packed),
        "float32_stem": apart(plain),
    }


@torch.no_grad()
def logits_of(network: nn.Module | Callable[[Tensor], Tensor], dataset: Dataset, test: Any) -> np.ndarray:
    """PyTorch's logits."""
    batches = evaluation_batches(test, dataset.mean, dataset.std, 250)
    return torch.cat([network(x.contiguous(memory_format=torch.channels_last)) for x, _ in batches]).numpy()


def with_plain_stems(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network with its stems computed in float32, as an ordinary ``nn.Conv2d`` does."""
    stems = [module for module in network.modules() if isinstance(module, ExactConv2d)]

    def call(x: Tensor) -> Tensor:
        for stem in stems:
            stem.training = True  # what a stem does in training is what nn.Conv2d does
        logits = network(x)
        for stem in stems:
            stem.training = False
        return logits

    return call


def page(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "# Packed networks against PyTorch, on all test images",
        "",
        "Distance: largest difference of an image's logits, over the largest of its logits. The last columns compare",
        "PyTorch with itself: stem in float32 against stem in double. Written by `benchmarks/equality.py`.",
        "",
        "| network | images | file, bytes | accuracy PyTorch / packed | largest distance | beyond 1e-4 | other answers "
        "| float32 stem: largest | beyond 1e-4 | other answers |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        packed, stem = row["packed"], row["float32_stem"]
        cells = [
            row["network"],
            f"{row['images']:,}",
            f"{row['bytes']:,}",
            f"{row['accuracy_torch']:.2%} / {row['accuracy_packed']:.2%}",
            *(f"{packed['largest']:.1e}", str(packed["beyond_1e-4"]), str(packed["other_answers"])),
            *(f"{stem['largest']:.1e}", str(stem["beyond_1e-4"]), str(stem["other_answers"])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(tyro.cli(Comparison))
