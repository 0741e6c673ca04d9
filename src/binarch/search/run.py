"""A whole search: propose, rank, choose, write the run folder."""

from typing import Any

from binarch.data import Dataset
from binarch.models import NetworkConfig, costs
from binarch.runs import RunFolder, to_plain, write_atomic
from binarch.search.bats import BATS
from binarch.search.config import SearchConfig
from binarch.search.darts import DARTS, DARTS_SECOND
from binarch.search.differentiable import SPLIT_SEED
from binarch.search.random import RANDOM
from binarch.spaces import Genotype
from binarch.training import Display, TrainConfig, train

STRATEGIES = {strategy.name: strategy for strategy in (BATS, DARTS, DARTS_SECOND, RANDOM)}


def search(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, *, resume: bool = False
) -> Genotype:
    """Search and return the chosen genotype; with ``resume`` a folder that was begun is continued."""
    config.build_space().check(config.channels)
    folder.claim({"verb": "search", **to_plain(config), "found": dataset.identity()}, resume=resume)
    if folder.has("result.json"):
        return Genotype.load(folder / "genotype.json")
    display = display.into(folder / "log.txt")
    found = STRATEGIES[config.strategy].propose(config, dataset, folder, display)
    result: dict[str, Any] = {}
    if len(found) == 1:
        name = next(iter(found))
    else:
        name, result = _rank(found, config, dataset, folder, display)
    for seed in found:
        child = folder.child(seed)
        if child.has("result.json"):
            rows = child.read_json("result.json")
            result["search_seconds"] = round(result.get("search_seconds", 0.0) + rows["search_seconds"], 1)
            if seed == name:
                result |= {key: value for key, value in rows.items() if key.endswith("_validation_accuracy")}
                folder.write_metrics(child.metrics())
                for epoch in sorted((child / "genotypes").glob("*.json")):
                    write_atomic(folder / "genotypes" / epoch.name, epoch.read_bytes())
    genotype = found[name]
    network = _network(config)
    result |= {
        "selected": name,
        "costs": costs(
            network.build(genotype, len(dataset.classes), _final(config)), dataset.image_size
        ).to_dict(),
    }  # fmt: skip
    folder.write_json("genotype.json", genotype.to_dict())
    folder.write_json("result.json", result)
    return genotype


def _network(config: SearchConfig) -> NetworkConfig:
    """The ranked networks have the shape of the (last) supernet."""
    return NetworkConfig(
        space=config.space, cells=config.stages[-1].cells, channels=config.channels, groups=config.groups
    )


def _final(config: SearchConfig) -> Any:
    return "none" if config.binarization == "none" else "both"


def _rank(
    found: dict[str, Genotype], config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display
) -> tuple[str, dict[str, Any]]:
    """Train every proposal briefly and name the best by validation accuracy (the test set stays closed)."""
    settings = TrainConfig(
        data=config.data,
        network=_network(config),
        binarize=(_final(config),),
        epochs=(config.rank_epochs,),
        weight_decay=(0.0,),
        batch_size=config.batch_size,
        crop_padding=config.crop_padding,
        flip=config.flip,
        validation=0.5,
        precision=config.precision,
        device=config.device,
        seed=SPLIT_SEED,
    )
    rows = []
    for index, (name, genotype) in enumerate(found.items()):
        display.say(f"Ranking {name} ({index + 1} of {len(found)})")
        done = train(genotype, settings, dataset, folder.child(f"rank-{name}"), display, test=False, resume=True)
        rows.append(
            {
                "name": name,
                "validation_accuracy": done["validation_accuracy"],
                "seconds": done["train_seconds"],
                "params": done["costs"]["params"],
                "genotype": genotype.to_dict(),
            }
        )
    rows.sort(key=lambda row: -row["validation_accuracy"])
    return rows[0]["name"], {
        "candidates": rows,
        "rank_seconds": round(sum(row["seconds"] for row in rows), 1),
    }
