"""What test_ranks.py starts with torchrun: each rank writes what it saw to FOLDER/rank-R.json."""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook

from binarch.data import Batches, DataConfig, Dataset, load
from binarch.errors import UserError
from binarch.models import CellNetwork, NetworkConfig
from binarch.ranks import ALONE, Ranks
from binarch.runs import RunFolder
from binarch.search import SearchConfig, search
from binarch.search.differentiable import halves
from binarch.search.search_task import SearchTask
from binarch.search.supernet import Supernet
from binarch.spaces import PUBLISHED
from binarch.training import Display, Interrupted, Task, TrainConfig, train
from binarch.training.device import make_fabric
from binarch.training.recalibrate import recalibrate
from binarch.training.train_task import TrainTask

#: 17 images a batch: parts of 8 and 9. Two steps an epoch.
SEARCH = SearchConfig(
    data=DataConfig(limit=70), cells=(3,), channels=4, groups=2, epochs=(2,), batch_size=17, alpha_learning_rate=0.05,
    crop_padding=1, flip="none", rank_epochs=1, candidates=2, device="cpu", precision="32",
)  # fmt: skip
TRAIN = TrainConfig(
    data=SEARCH.data, network=NetworkConfig(cells=3, channels=4, groups=2), epochs=(1,), batch_size=17,
    crop_padding=1, flip="none", drop_path=0.3, device="cpu", precision="32",
)  # fmt: skip
#: Everything that docs/recipes.md names, at once.
PIECES = replace(
    TRAIN, network=NetworkConfig(scheme="standardised", width=4), flip="alternating", crop_fill="reflect", average=3,
    recalibrate=2, teacher="previous-stage", optimizer="muon", drop_path=0.0, whiten=True, keep=0.6, proxy="proxy",
)  # fmt: skip
QUIET = Display(silent=True)


@contextmanager
def before_forward(act: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    hook = register_module_forward_pre_hook(act)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def without_batch_statistics() -> Iterator[None]:
    """All batch norms bring single images, not batches, to a mean square of one; all networks compute in double."""
    norm = functional.batch_norm

    def by_image(x: Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None, *_: Any, **__: Any) -> Tensor:
        scaled = x / (x.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        scaled = scaled if weight is None else scaled * weight.view(-1, 1, 1)
        return scaled if bias is None else scaled + bias.view(-1, 1, 1)

    def in_double(module: nn.Module, given: Any) -> Any:
        return (given[0].double(), *given[1:]) if isinstance(module, Supernet | CellNetwork) else None

    functional.batch_norm = by_image
    try:
        with before_forward(in_double):
            yield
    finally:
        functional.batch_norm = norm


#: Of DARTS; the weight of the regularizer is above 0 from the second epoch on.
REPAIRS: dict[str, Any] = {
    "channels": 8, "groups": 2, "partial": 2, "auxiliary_skip": True, "beta_weight": 3.0, "epochs": (2,)
}  # fmt: skip


def search_task(ranks: Ranks, dataset: Dataset, strategy: str, **repairs: Any) -> tuple[Task, nn.Module]:
    config = replace(SEARCH, strategy=strategy, space="bats", binarize="none", **repairs)
    fabric = make_fabric("cpu", "32", ranks)
    folder = RunFolder("never written", ranks)
    task = SearchTask(config, 0, 0, dataset, halves(dataset, fabric), fabric, folder, None)
    return task, task.supernet


def train_task(ranks: Ranks, dataset: Dataset) -> tuple[Task, nn.Module]:
    network = replace(TRAIN.network, space="darts")
    config = replace(TRAIN, network=network, binarize=("none",), drop_path=0.0, optimizer="sgd", clip=0.5)
    parts = (dataset.train, dataset.train.subset(torch.arange(0)))
    fabric = make_fabric("cpu", "32", ranks)
    task = TrainTask(config, 0, PUBLISHED["darts-v2"].genotype, dataset, parts, fabric, ranks, None)
    return task, task.plain


def two_steps(made: tuple[Task, nn.Module]) -> tuple[list[Tensor], list[Tensor]]:
    """All parameters before and after."""
    task, network = made
    network.double()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for step in (0, 1):
        task.step(task.epochs - 1, step)
    return before, [parameter.detach() for parameter in network.parameters()]


def compared(make: Callable[[Ranks], tuple[Task, nn.Module]], ranks: Ranks) -> dict[str, float]:
    """Two steps of all ranks, and of one."""

    def apart(one: list[Tensor], other: list[Tensor]) -> float:
        return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))

    with without_batch_statistics():
        before, after = two_steps(make(ranks))
        told = {"ranks equal": float(ranks.agree(after)), "moved": apart(before, after)}
        if ranks.first:
            told["from one process"] = apart(after, two_steps(make(ALONE))[1])
    return told


def statistics(ranks: Ranks, dataset: Dataset) -> dict[str, float]:
    """Statistics that all ranks took anew, and those of one process."""
    batches = Batches(dataset.train, dataset.mean, dataset.std, 17, 0, TRAIN.augment)
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    for norm, who in zip(norms, (ranks, ALONE), strict=True):
        recalibrate(norm, norm, batches, 1, 3, who)
    assert isinstance(norms[0].running_mean, Tensor)
    apart = float((norms[0].running_mean - norms[1].running_mean).abs().max())
    return {"ranks equal": float(ranks.agree(norms[0].buffers())), "from one process": apart}


def digest(value: Any) -> str:
    """Of all tensors in a checkpoint's state."""
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Tensor):
            found.update(part.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(part, dict | list | tuple):
            for item in part.values() if isinstance(part, dict) else part:
                add(item)

    add(value)
    return found.hexdigest()


def stopped(kind: type[nn.Module], forward: int, run: Callable[[], Any], *, here: bool) -> bool:
    """Press Ctrl-C on this rank, if ``here``, when a ``kind`` computes for the ``forward``-th time."""
    left = [forward]

    def press(module: nn.Module, given: Any) -> None:
        if here and isinstance(module, kind):
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGINT)

    try:
        with before_forward(press):
            run()
    except Interrupted:
        return True
    return False


def searched(ranks: Ranks, dataset: Dataset, folder: RunFolder, config: SearchConfig, at: int = 0) -> dict[str, Any]:
    """A whole search; with ``at`` stopped there on the second rank and continued."""
    told: dict[str, Any] = {}
    if at:
        again = lambda: search(config, dataset, folder, QUIET, resume=True)  # noqa: E731
        told["stopped"] = stopped(Supernet, at, again, here=not ranks.first)
        position = folder.child("seed-0").load_checkpoint()["position"]
        told["position"] = [position["epoch"], position["step"]]
    told["genotype"] = search(config, dataset, folder, QUIET, resume=True).to_dict()
    told["state"] = digest(RunFolder(folder.path).child("seed-0").load_checkpoint()["task"])
    told["rows"] = [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
        for row in folder.metrics()
    ]
    return told


def refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    return ""


def the_class(ranks: Ranks, out: Path) -> dict[str, Any]:
    def complain() -> None:
        raise UserError(f"asked: rank {ranks.rank}")

    mine = torch.tensor([1.0 + ranks.rank, 10.0])
    ranks.sum_([mine], 0.5)
    folder = RunFolder(out / f"folder-{ranks.rank}", ranks)
    folder.claim({"verb": "none"}, resume=False)
    folder.write_json("a.json", {"rank": ranks.rank})
    return {
        "sum": [part.tolist() for part in ranks.sum([torch.full((2, 1), ranks.rank + 1.0), torch.tensor(5)])],
        "sum_": mine.tolist(),
        "any": ranks.any(ranks.rank == 1, False, True),
        "told": ranks.told(lambda: ranks.rank),
        "complaint": refusal(lambda: ranks.told(complain)),
        "agree": [ranks.agree([torch.ones(2)]), ranks.agree([torch.full((2,), float(ranks.rank))])],
        "read": folder.read_json("a.json"),
        "claimed twice": refusal(lambda: folder.claim({"verb": "none"}, resume=False)),
        "wrote": folder.path.exists(),
        "small batch": refusal(lambda: ranks.check_batch(3)),
    }


def main(out: Path) -> None:
    dataset = load(SEARCH.data)
    second = replace(SEARCH, strategy="darts-second", binarize="none", epochs=(1,))
    told: dict[str, Any] = {}
    with Ranks.started().joined() as ranks:
        told["class"] = the_class(ranks, out)
        told["steps"] = {
            "first order": compared(lambda ranks: search_task(ranks, dataset, "darts"), ranks),
            "second order": compared(lambda ranks: search_task(ranks, dataset, "darts-second"), ranks),
            "repairs": compared(lambda ranks: search_task(ranks, dataset, "darts-second", **REPAIRS), ranks),
            "training": compared(lambda ranks: train_task(ranks, dataset), ranks),
        }
        told["bats"] = searched(ranks, dataset, RunFolder(out / "bats", ranks), SEARCH)
        told["bats stopped"] = searched(ranks, dataset, RunFolder(out / "stopped", ranks), SEARCH, at=6)
        told["second"] = searched(ranks, dataset, RunFolder(out / "second", ranks), second)
        folder = RunFolder(out / "train", ranks)
        again = lambda: train(PUBLISHED["pdarts"].genotype, TRAIN, dataset, folder, QUIET, resume=True)  # noqa: E731
        told["train stopped"] = stopped(CellNetwork, 2, again, here=ranks.first)
        told["train"] = again()
        pieces = replace(PIECES, proxy=str(out / "proxy"))
        train(
            "vgg-small",
            replace(TRAIN, binarize=("none",), drop_path=0.0),
            dataset,
            RunFolder(out / "proxy", ranks),
            QUIET,
        )
        told["pieces"] = train("vgg-small", pieces, dataset, RunFolder(out / "pieces", ranks), QUIET)
        told["pieces"].pop("train_seconds")
        told["statistics"] = statistics(ranks, dataset)
        random = replace(SEARCH, strategy="random", rank_epochs=1)
        told["random"] = search(random, dataset, RunFolder(out / "random", ranks), QUIET).to_dict()
        mining = replace(TRAIN, network=NetworkConfig(scheme="ci-net"), binarize=("both", "mine", "both"))
        told["mine"] = refusal(lambda: train("vgg-small", mining, dataset, RunFolder(out / "mine", ranks), QUIET))
    (out / f"rank-{ranks.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
