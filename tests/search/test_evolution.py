"""Aging evolution: the toy of its paper, ages, mutations, and a whole search that is stopped and continued."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console

from binarch.data import DataConfig, derive_seed, load
from binarch.runs import RunFolder
from binarch.search import SearchConfig, search
from binarch.search.derive import random_genotype
from binarch.search.evaluation import Job, Record
from binarch.search.evolution import Model, evolve, mutate_genotype, propose
from binarch.search.executor import Executor
from binarch.spaces import Genotype, Nasnet, Space
from binarch.training import Display


def toy(seed: int, brood: int = 1) -> list[Model[tuple[int, ...]]]:
    """100 bits; fitness is the share of ones, plus noise, within 0 and 1."""

    def draw(generator: torch.Generator) -> tuple[int, ...]:
        return tuple(torch.randint(2, (100,), generator=generator).tolist())

    def mutate(bits: tuple[int, ...], generator: torch.Generator) -> tuple[int, ...]:
        at = int(torch.randint(100, (), generator=generator))
        return (*bits[:at], 1 - bits[at], *bits[at + 1 :])

    def evaluate(index: int, bits: tuple[int, ...]) -> float:
        noise = torch.Generator().manual_seed(derive_seed(seed, "noise", index))
        return min(1.0, max(0.0, sum(bits) / 100 + 0.01 * float(torch.randn((), generator=noise))))

    def fitnesses(first: int, models: list[tuple[int, ...]]) -> list[float]:
        return [evaluate(index, bits) for index, bits in enumerate(models, first)]

    return evolve(draw, mutate, fitnesses, population=100, sample=10, models=1000, seed=seed, brood=brood)


def test_the_toy_climbs_as_published_code_does() -> None:
    runs = [toy(seed) for seed in range(30)]
    best = [max(model.fitness for model in run) for run in runs]
    assert statistics.mean(best) == pytest.approx(0.905, abs=0.03)
    late = [statistics.mean(sum(model.what) / 100 for model in run[-100:]) for run in runs]
    assert statistics.mean(late) == pytest.approx(0.863, abs=0.03)


def test_parents_live_and_the_oldest_dies_whatever_its_fitness() -> None:
    run = toy(3)
    assert [model.parent for model in run[:100]] == [None] * 100
    for model in run[100:]:
        assert model.parent is not None
        assert model.index - 100 <= model.parent < model.index
    fittest = max(run, key=lambda model: model.fitness)
    late = [model.parent for model in run if model.index >= fittest.index + 101]
    assert fittest.index not in late


def test_the_same_fitnesses_give_the_same_history() -> None:
    assert toy(5) == toy(5)
    assert toy(5) != toy(6)


def test_the_toy_stays_what_it_was_before_there_were_broods() -> None:
    history = [(model.index, model.what, model.fitness, model.parent) for model in toy(5)]
    assert hashlib.sha256(repr(history).encode()).hexdigest().startswith("895dd3732e1a98a0")


def test_a_brood_has_its_parents_in_the_population_before_it() -> None:
    run = toy(3, brood=7)
    assert [model.index for model in run] == list(range(1000))
    for model in run[100:]:
        first = 100 + (model.index - 100) // 7 * 7
        assert model.parent is not None
        assert first - 100 <= model.parent < first
    assert any(model.parent > model.index - 14 for model in run[200:])  # children of the brood before breed at once
    assert statistics.mean(sum(model.what) / 100 for model in run[-100:]) > 0.8


def test_mutations_change_one_slot_or_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    start = random_genotype(Space.rules, generator)
    changes: Counter[str] = Counter()
    touched: Counter[tuple[str, int]] = Counter()
    for _ in range(20_000):
        child = mutate_genotype(start, Space.rules, generator)
        slots = {
            (kind, slot): (old, new)
            for kind in ("normal", "reduce")
            for slot, (old, new) in enumerate(zip(getattr(start, kind).edges, getattr(child, kind).edges, strict=True))
            if old != new
        }
        pairs = list(slots.values())
        touched.update(list(slots))
        assert len(pairs) <= 1
        for cell in (child.normal, child.reduce):
            assert all(first.source != second.source for first, second in cell.nodes)
            assert not cell.count("none")
        for old, new in pairs:
            assert (old.source != new.source) != (old.primitive != new.primitive)
            changes["source" if old.source != new.source else "primitive"] += 1
    assert len(touched) == 16  # every slot of both cells
    assert min(touched.values()) > 0.4 * max(touched.values())  # the first node's sources cannot change
    # A source can be replaced at three of four nodes; one of seven primitives is the old one.
    assert changes["source"] / 20_000 == pytest.approx(0.95 * 0.5 * 3 / 4, abs=0.02)
    assert changes["primitive"] / 20_000 == pytest.approx(0.95 * 0.5 * 6 / 7, abs=0.02)


def test_mutations_in_the_nasnet_space_keep_its_rules() -> None:
    generator = torch.Generator().manual_seed(0)
    genotype = random_genotype(Nasnet.rules, generator)
    changes: Counter[str] = Counter()
    for _ in range(5_000):
        child = mutate_genotype(genotype, Nasnet.rules, generator)
        pairs = list(zip(genotype.normal.edges + genotype.reduce.edges, child.normal.edges + child.reduce.edges))
        changed = [(old, new) for old, new in pairs if old != new]
        assert len(changed) <= 1
        for cell in (child.normal, child.reduce):
            assert set(cell.concat) == set(range(2, 7)) - {edge.source for edge in cell.edges}
            changes["twice"] += any(first.source == second.source for first, second in cell.nodes)
        changes["source"] += any(old.source != new.source for old, new in changed)
        changes["output"] += child.normal.concat != genotype.normal.concat
        genotype = child
    # The other input is always free, so every mutation of a source changes it.
    assert changes["source"] / 5_000 == pytest.approx(0.95 * 0.5, abs=0.03)
    assert min(changes["twice"], changes["output"]) > 200


def test_the_brood_of_the_settings_is_bred(tmp_path: Path) -> None:
    class Scores(Executor):
        """Accuracies that rise with the number of the model, so that parents tell when they were chosen."""

        def records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
            asked.append(len(jobs))
            for job in jobs:
                yield job, Record(job.genotype, int(job.name.rpartition("-")[2]) / 100, 1.0, 10)

        def close(self) -> None:
            """Nothing runs."""

    asked: list[int] = []
    config = SearchConfig(strategy="evolution", candidates=11, population=3, sample=3, brood=2)
    quiet = Display(console=Console(quiet=True))
    found = propose(config, load(DataConfig(limit=40)), RunFolder(tmp_path), quiet, Scores())
    assert asked == [3, 2, 2, 2, 2]
    models = RunFolder(tmp_path).read_json("evolution-0.json")["models"]
    assert [model["index"] for model in models] == list(range(11))
    for model in models[3:]:
        assert model["parent"] < 3 + (model["index"] - 3) // 2 * 2  # of the population before the brood
    assert found["seed-0"].to_dict() == models[10]["genotype"]
    assert RunFolder(tmp_path).child("seed-0").read_json("result.json")["search_seconds"] == 11.0


@pytest.mark.parametrize("strategy", ["evolution", "reinforce"])
def test_a_search_stopped_between_models_repeats_none(strategy: str, tmp_path: Path) -> None:
    config = SearchConfig(
        data=DataConfig(limit=60), strategy=strategy, cells=(3,), channels=4, groups=2, batch_size=16,
        crop_padding=1, flip="none", rank_epochs=1, candidates=4, population=2, sample=2,
    )  # fmt: skip
    digits = load(config.data)

    class Stop(Exception):
        pass

    class Screen(Console):
        """Stops the search when the third model is told."""

        def print(self, *objects: object, **options: object) -> None:
            if ": 3 of 4 " in str(objects[0]):
                raise Stop

    with pytest.raises(Stop):
        search(config, digits, RunFolder(tmp_path), Display(console=Screen()))
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-model-*/re*.json")}
    assert len(trained) == 2 * 3  # a result and a record each
    quiet = Display(console=Console(quiet=True))
    found = search(config, digits, RunFolder(tmp_path), quiet, resume=True)
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    history = RunFolder(tmp_path).read_json(f"{strategy}-0.json")["models"]
    assert [row["index"] for row in history] == [0, 1, 2, 3]
    if strategy == "evolution":
        assert [row["parent"] is None for row in history] == [True, True, False, False]
    records = [RunFolder(path.parent).read_json(path.name) for path in tmp_path.glob("*-model-*/record.json")]
    spent = RunFolder(tmp_path).read_json("result.json")["search_seconds"]
    assert spent == pytest.approx(sum(record["seconds"] for record in records), abs=0.05)
    best = max(history, key=lambda row: row["fitness"])
    assert found == Genotype.from_dict(best["genotype"])
