"""A whole search: propose, rank, choose, write the run folder."""

from typing import Any

from binarch.data import Dataset
from binarch.errors import UserError
from binarch.models import costs
from binarch.runs import RunFolder, to_plain
from binarch.search.bats import BATS
from binarch.search.candidates import Candidates
from binarch.search.config import SearchConfig
from binarch.search.darts import DARTS, DARTS_SECOND
from binarch.search.evaluation import Evaluator, Job, candidate_binarize, candidate_network
from binarch.search.evolution import EVOLUTION
from binarch.search.executor import Executor, InProcess
from binarch.search.local_pool import LocalPool
from binarch.search.partial import check_width
from binarch.search.pdarts import PDARTS
from binarch.search.random import RANDOM
from binarch.search.ray_tasks import RayTasks
from binarch.search.reinforce import REINFORCE
from binarch.spaces import Genotype
from binarch.training import Display
from binarch.training.device import make_fabric

STRATEGIES = {strategy.name: strategy for strategy in (BATS, DARTS, DARTS_SECOND, PDARTS, EVOLUTION, REINFORCE, RANDOM)}


def search(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, *, resume: bool = False
) -> Genotype:
    """Search and return the chosen genotype; with ``resume`` a folder that was begun is continued.

    ``result.json`` tells the cost: ``search_seconds`` of computation until the proposals were there (all seeds; with
    random cells, whose search is their ranking, until they were ranked) and ``rank_seconds`` of the ranking besides.
    With several workers these are the sums of what each has spent.
    """
    check_width(config.build_space(), config.channels, config.partial)
    make_fabric(config.device, config.supernet_precision, folder.ranks)
    folder.ranks.check_data(config.batch_size, dataset.train.pixels, dataset.train.labels)
    settings = {"verb": "search", **to_plain(config), "found": dataset.identity()}
    display = display.into(folder / "log.txt")
    with make_executor(config, dataset, folder, display) as executor:
        folder.claim(settings, resume=resume, defaults=to_plain(SearchConfig()))
        if folder.has("result.json"):
            return folder.ranks.told(lambda: Genotype.load(folder / "genotype.json"))
        found = STRATEGIES[config.strategy].propose(config, dataset, folder, display, executor)
        name, result = _choose(found, config, Candidates("Ranking", len(found), folder, executor, display))
    for seed in found:
        child = folder.child(seed)
        if child.has("result.json"):
            rows = child.read_json("result.json")
            result["search_seconds"] = round(result["search_seconds"] + rows["search_seconds"], 1)
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


def make_executor(config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display) -> Executor:
    """Who evaluates the candidates of the search in ``folder``."""
    evaluate = Evaluator(config, dataset, folder)
    if folder.ranks.world > 1 and (config.executor, config.workers) != ("local", 1):
        what = "executor: ray" if config.executor == "ray" else f"workers: {config.workers}"
        raise UserError(
            f"{what} is not possible under torchrun, whose ranks train every candidate together; use --executor local "
            "--workers 1, or start without torchrun"
        )
    if config.executor == "ray":
        return RayTasks(evaluate, config.workers)
    return LocalPool(evaluate, config.workers) if config.workers > 1 else InProcess(evaluate, display)


def _choose(found: dict[str, Genotype], config: SearchConfig, candidates: Candidates) -> tuple[str, dict[str, Any]]:
    """The name of the only proposal, or of the best by a short training of each (the test set stays closed)."""
    if len(found) == 1:
        return next(iter(found)), {"search_seconds": 0.0}
    records = candidates.scores([Job(f"rank-{name}", genotype) for name, genotype in found.items()])
    rows = [{"name": name, **record.to_dict()} for name, record in zip(found, records, strict=True)]
    rows.sort(key=lambda row: -row["validation_accuracy"])
    spent = "search_seconds" if config.strategy == "random" else "rank_seconds"
    return rows[0]["name"], {"candidates": rows, "search_seconds": 0.0, spent: candidates.seconds}
