"""The supplement's Table 2: real-valued systems on CIFAR-10."""

from dataclasses import replace
from typing import Any

from binarch.data import DataConfig
from binarch.models import NetworkConfig
from binarch.recipes import RECIPES
from binarch.reproduce.table2.system import Searched, System, Trained
from binarch.search import SearchConfig
from binarch.training import TrainConfig

_CIFAR = DataConfig(dataset="cifar10")
#: Two-stage training of binary cells, as the recipe ``cifar10`` has it.
_BINARY = RECIPES["cifar10"].train


def _train(space: str, channels: int = 36, **settings: Any) -> TrainConfig:
    """DARTS' evaluation (600 epochs of SGD, cutout, auxiliary head, drop-path), with a system's own ``settings``."""
    return TrainConfig(
        **{
            "data": _CIFAR,
            "network": NetworkConfig(space=space, channels=channels, auxiliary=True),  # type: ignore[arg-type]
            "binarize": ("none",),
            "epochs": (600,),
            "learning_rate": (0.025,),
            "weight_decay": (3e-4,),
            "optimizer": "sgd",
            "batch_size": 96,
            "drop_path": 0.2,
            "cutout": 16,
            "validation": 0.0,
            **settings,
        }
    )


def _gradient(strategy: str, **settings: Any) -> SearchConfig:
    """DARTS' search: 8 cells, 50 epochs, four seeds ranked by short trainings."""
    defaults = {"data": _CIFAR, "strategy": strategy, "space": "darts", "channels": 16, "seed": (0, 1, 2, 3),
                "rank_epochs": 25}  # fmt: skip
    return SearchConfig(**{**defaults, **settings})


def _binary(search: SearchConfig, **settings: Any) -> Searched:
    """The same search over binary cells: the BATS space, activations of one bit (candidates: weights too)."""
    return Searched(replace(search, space="bats", binarize=None, **{"channels": 24, **settings}), _BINARY)


_NASNET = SearchConfig(
    data=_CIFAR, strategy="reinforce", space="nasnet", cells=(8,), channels=32, candidates=1000, population=20,
    rank_epochs=20,
)  # fmt: skip
_AMOEBANET = SearchConfig(
    data=_CIFAR, strategy="evolution", space="nasnet", cells=(11,), channels=24, candidates=1000, population=100,
    sample=25, rank_epochs=25,
)  # fmt: skip
_DARTS, _DARTS_SECOND = _gradient("darts"), _gradient("darts-second")
_PDARTS = RECIPES["pdarts"]
_BATS_BINARY = RECIPES["cifar10"].search
_BATS = replace(_BATS_BINARY, binarize="none", learning_rate=0.1)
_RANDOM = SearchConfig(data=_CIFAR, strategy="random", channels=24, candidates=24, rank_epochs=25, binarize="none")
_BATS_TRAIN = _train("bats", learning_rate=(0.1,))


def _bats(cells: int, channels: int, groups: int) -> Searched:
    network = replace(_BATS_TRAIN.network, cells=cells, channels=channels, groups=groups)
    return Searched(_BATS, replace(_BATS_TRAIN, network=network))


_CANDIDATES = (
    "1,000 models instead of 20,000; AdamW and half of the images for each (published: SGD, 45,000); the best short "
    "training wins (published: many are trained on)"
)
_ONE_SPACE = "the binary search uses the BATS space"
_RANKED = "four seeds are ranked by 25 epochs (published: 100)"
_UNKNOWN = (
    "cells, widths and protocol of the published rows are unknown: rate 0.1 and SGD as the supplement says, the rest "
    "as DARTS"
)

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            "nasnet-a", "NASNet-A", 2.65, 3.3, 2000,
            Trained("nasnet-a", "nasnet", _train("darts", batch_size=32, weight_decay=(5e-4,), drop_path=0.4)),
            Searched(_NASNET, _train("nasnet", channels=32, batch_size=32, weight_decay=(5e-4,), drop_path=0.4)),
            _binary(_NASNET),
            (_CANDIDATES, "the controller's rate is higher, for so few models", _ONE_SPACE),
        ),
        System(
            "amoebanet-a", "AmoebaNet-A", 3.34, 3.2, 3150,
            Trained("amoebanet-a", "amoebanet", _train(
                "darts", batch_size=32, weight_decay=(5e-4,), drop_path=0.3, cutout=0, learning_rate=(0.024,),
                auxiliary_weight=0.5,
            )),
            Searched(_AMOEBANET, _train(
                "nasnet", batch_size=32, weight_decay=(5e-4,), drop_path=0.3, cutout=0, learning_rate=(0.024,),
                auxiliary_weight=0.5,
            )),
            _binary(_AMOEBANET),
            (_CANDIDATES, "real-valued cells have NASNet's 13 operations (published: 8)", _ONE_SPACE),
        ),
        System(
            "darts-v1", "DARTS (first order)", 3.00, 3.3, 1.5,
            Trained("darts-v1", "darts-v1", _train("darts")), Searched(_DARTS, _train("darts")), _binary(_DARTS),
            ("the released cell has 3.17 M parameters, not 3.3 M", _RANKED, _ONE_SPACE),
        ),
        System(
            "darts-v2", "DARTS (second order)", 2.76, 3.3, 4.0,
            Trained("darts-v2", "darts-v2", _train("darts")), Searched(_DARTS_SECOND, _train("darts")),
            _binary(_DARTS_SECOND), (_RANKED, _ONE_SPACE),
        ),
        System(
            "pdarts", "P-DARTS", 2.50, 3.4, 0.3,
            Trained("pdarts", "pdarts", _PDARTS.train), Searched(_PDARTS.search, _PDARTS.train),
            _binary(_PDARTS.search),
            ("the released cell is of another run than the paper's figure", "the alphas' gradient is not clipped",
             "the rate of a search ends at 0.001 (published: 0)", _ONE_SPACE),
        ),
        System(
            "bats-2.5m", "BATS", 2.70, 2.5, None, None, _bats(20, 36, 12), Searched(_BATS_BINARY, _BINARY),
            (_UNKNOWN, "20 cells, 36 channels, 12 groups (2.6 M with P-DARTS' topology)"),
        ),
        System(
            "bats-3.5m", "BATS", 2.40, 3.5, None, None, _bats(20, 40, 10), None,
            (_UNKNOWN, "20 cells, 40 channels, 10 groups (3.5 M with P-DARTS' topology)"),
        ),
        System(
            "random", "random cells", None, None, None, None,
            Searched(_RANDOM, _BATS_TRAIN), _binary(_RANDOM),
            ("the best of random cells in a short training; not in the published table",),
        ),
    )
}  # fmt: skip
