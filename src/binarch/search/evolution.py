"""Aging evolution (Real et al., AAAI 2019), the search behind AmoebaNet: the fittest breed, the oldest dies."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, final

import torch

from binarch.data import Dataset, derive_seed
from binarch.runs import RunFolder
from binarch.search.candidates import Candidates
from binarch.search.config import SearchConfig
from binarch.search.derive import random_genotype
from binarch.search.evaluation import Job
from binarch.search.executor import Executor
from binarch.search.strategy import Strategy
from binarch.spaces import Cell, CellRules, Genotype
from binarch.training import Display

T = TypeVar("T")
#: How often a mutation changes nothing.
IDENTITY = 0.05


@final
@dataclass(frozen=True)
class Model(Generic[T]):
    """One member of the history: the ``index``-th that was evaluated, and the parent's index (None: drawn)."""

    index: int
    what: T
    fitness: float
    parent: int | None


def evolve(
    draw: Callable[[torch.Generator], T],
    mutate: Callable[[T, torch.Generator], T],
    evaluate: Callable[[int, list[T]], list[float]],
    *,
    population: int,
    sample: int,
    models: int,
    seed: int,
    brood: int = 1,
) -> list[Model[T]]:
    """Evaluate ``models`` models; return all of them in order.

    The first ``population`` are drawn. Then, again and again: ``sample`` members are drawn with replacement, the
    fittest of them has a mutated child, the child joins on the right, and the *oldest* member leaves on the left,
    however fit it is. With a ``brood`` above 1 (ours; the paper's workers breed whenever they are free) so many
    children are bred from the same population before they all join and as many of the oldest leave.

    ``evaluate(index, models)`` returns the fitnesses of models that do not depend on one another, the first of which
    is number ``index``: the drawn ones, then one brood after the other. Model number i draws from a generator of its
    own, seeded by (seed, i): so the same fitnesses give the same history, and a search that was stopped is continued
    by evaluating what is finished anew, that is, reading it back.
    """

    def breed(index: int) -> tuple[T, int | None]:
        generator = torch.Generator().manual_seed(derive_seed(seed, "evolution", index))
        if index < population:
            return draw(generator), None
        drawn = torch.randint(len(living), (sample,), generator=generator).tolist()
        fittest = max((living[at] for at in drawn), key=lambda model: model.fitness)
        return mutate(fittest.what, generator), fittest.index

    history: list[Model[T]] = []
    living: deque[Model[T]] = deque(maxlen=population)  # the oldest leaves when one joins
    while len(history) < models:
        first = len(history)
        bred = [breed(index) for index in range(first, min(models, first + brood if first else population))]
        fitnesses = evaluate(first, [what for what, _ in bred])
        for index, ((what, parent), fitness) in enumerate(zip(bred, fitnesses, strict=True), first):
            history.append(Model(index, what, fitness, parent))
            living.append(history[-1])
    return history


def mutate_genotype(genotype: Genotype, rules: CellRules, generator: torch.Generator) -> Genotype:
    """Change one slot: of a random cell, node and edge either the source or the primitive; with chance 0.05 nothing.

    A new source is drawn from the other states that ``rules`` lets the edge read (where there is none, nothing
    changes), a new primitive from all candidates but ``none``, the old one included. The output follows the rules.
    """

    def pick(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    if float(torch.rand((), generator=generator)) < IDENTITY:
        return genotype
    kind = ("normal", "reduce")[pick(2)]
    cell: Cell = getattr(genotype, kind)
    node, slot, of_source = pick(len(cell.nodes)), pick(2), pick(2) == 0
    edges = list(cell.nodes[node])
    if of_source:
        free = rules.sources(node + 2, kept=edges[1 - slot].source, old=edges[slot].source)
        if not free:
            return genotype
        edges[slot] = replace(edges[slot], source=free[pick(len(free))])
    else:
        edges[slot] = replace(edges[slot], primitive=rules.operations[pick(len(rules.operations))])
    nodes = (*cell.nodes[:node], (edges[0], edges[1]), *cell.nodes[node + 1 :])
    return replace(genotype, **{kind: rules.cell(nodes)})


def propose(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, executor: Executor
) -> dict[str, Genotype]:
    """The fittest of each seed's history, which stays in ``evolution-SEED.json``."""
    rules = config.build_space().rules
    found = {}
    for seed in config.seed:
        candidates = Candidates(f"Evolution, seed {seed}", config.candidates, folder, executor, display)

        def fitnesses(first: int, models: list[Genotype], seed: int = seed, of: Candidates = candidates) -> list[float]:
            jobs = [Job(f"seed-{seed}-model-{index:04d}", model) for index, model in enumerate(models, first)]
            return [record.validation_accuracy for record in of.scores(jobs)]

        history = evolve(
            lambda generator: random_genotype(rules, generator),
            lambda genotype, generator: mutate_genotype(genotype, rules, generator),
            fitnesses,
            population=min(config.population, config.candidates),
            sample=config.sample,
            models=config.candidates,
            seed=seed,
            brood=config.brood,
        )
        rows = [
            {"index": m.index, "parent": m.parent, "fitness": m.fitness, "genotype": m.what.to_dict()} for m in history
        ]
        folder.write_json(f"evolution-{seed}.json", {"models": rows})
        folder.child(f"seed-{seed}").write_json("result.json", {"search_seconds": candidates.seconds})
        found[f"seed-{seed}"] = max(history, key=lambda model: model.fitness).what
    return found


EVOLUTION = Strategy("evolution", "aging evolution with short trainings (AmoebaNet, 2019)", propose)
