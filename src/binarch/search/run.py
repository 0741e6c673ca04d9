"""A whole search: propose, rank, choose, write the run folder."""

from typing import Any

from binarch.data import Dataset
from binarch.models import costs
from binarch.runs import RunFolder, to_plain
from binarch.search.bats import BATS
from binarch.search.candidates import candidate_binarize, candidate_network, score
from binarch.search.config import SearchConfig
from binarch.search.darts import DARTS, DARTS_SECOND
from binarch.search.evolution import EVOLUTION
from binarch.search.pdarts import PDARTS
from binarch.search.random import RANDOM
from binarch.search.reinforce import REINFORCE
from binarch.spaces import Genotype
from binarch.training import Display

STRATEGIES = {strategy.name: strategy for strategy in (BATS, DARTS, DARTS_SECOND, PDARTS, EVOLUTION, REINFORCE, RANDOM)}


def search(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, *, resume: bool = False
) -> Genotype:
    """Search and return the chosen genotype; with ``resume`` a folder that was begun is continued."""
    config.build_space().check(config.channels)
    folder.claim({"verb": "search", **to_plain(config), "found": dataset.identity()}, resume=resume)
    if folder.has("result.json"):
        return folder.ranks.told(lambda: Genotype.load(folder / "genotype.json"))
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
                    folder.write(f"genotypes/{epoch.name}", epoch.read_bytes())
    genotype = found[name]
    network = candidate_network(config).build(genotype, len(dataset.classes), candidate_binarize(config))
    result |= {"selected": name, "costs": costs(network, dataset.image_size).to_dict()}
    folder.write_json("genotype.json", genotype.to_dict())
    folder.write_json("result.json", result)
    return genotype


def _rank(
    found: dict[str, Genotype], config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display
) -> tuple[str, dict[str, Any]]:
    """Train every proposal briefly and name the best by validation accuracy (the test set stays closed)."""
    rows = []
    for index, (name, genotype) in enumerate(found.items()):
        display.say(f"Ranking {name} ({index + 1} of {len(found)})")
        rows.append({"name": name, **score(genotype, config, dataset, folder.child(f"rank-{name}"), display)})
    rows.sort(key=lambda row: -row["validation_accuracy"])
    return rows[0]["name"], {
        "candidates": rows,
        "rank_seconds": round(sum(row["seconds"] for row in rows), 1),
    }
