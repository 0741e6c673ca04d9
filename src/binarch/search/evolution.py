"""Aging evolution (Real et al., AAAI 2019), the search behind AmoebaNet: the fittest breed, the oldest dies."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, final

import torch

from binarch.data import Dataset, derive_seed
from binarch.runs import RunFolder
from binarch.search.candidates import score
from binarch.search.config import SearchConfig
from binarch.search.derive import random_genotype
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
    evaluate: Callable[[int, T], float],
    *,
    population: int,
    sample: int,
    models: int,
    seed: int,
) -> list[Model[T]]:
    """Evaluate ``models`` models; return all of them in order.

    The first ``population`` are drawn. Then, again and again: ``sample`` members are drawn with replacement, the
    fittest of them has a mutated child, the child joins on the right, and the *oldest* member leaves on the left,
    however fit it is. Model number i draws from a generator of its own, seeded by (seed, i): so the same fitnesses
    give the same history, and a search that was stopped is continued by evaluating what is finished anew, that is,
    reading it back.
    """
    history: list[Model[T]] = []
    living: deque[Model[T]] = deque(maxlen=population)  # the oldest leaves when one joins
    for index in range(models):
        generator = torch.Generator().manual_seed(derive_seed(seed, "evolution", index))
        if index < population:
            parent, what = None, draw(generator)
        else:
            drawn = torch.randint(len(living), (sample,), generator=generator).tolist()
            fittest = max((living[at] for at in drawn), key=lambda model: model.fitness)
            parent, what = fittest.index, mutate(fittest.what, generator)
        history.append(Model(index, what, evaluate(index, what), parent))
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


def propose(config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display) -> dict[str, Genotype]:
    """The fittest of each seed's history, which stays in ``evolution-SEED.json``."""
    rules = config.build_space().rules
    found = {}
    for seed in config.seed:

        def fitness(index: int, genotype: Genotype, seed: int = seed) -> float:
            display.say(f"Evolution, seed {seed}: model {index + 1} of {config.candidates}")
            child = folder.child(f"seed-{seed}-model-{index:04d}")
            return float(score(genotype, config, dataset, child, display)["validation_accuracy"])

        history = evolve(
            lambda generator: random_genotype(rules, generator),
            lambda genotype, generator: mutate_genotype(genotype, rules, generator),
            fitness,
            population=min(config.population, config.candidates),
            sample=config.sample,
            models=config.candidates,
            seed=seed,
        )
        rows = [
            {"index": m.index, "parent": m.parent, "fitness": m.fitness, "genotype": m.what.to_dict()} for m in history
        ]
        folder.write_json(f"evolution-{seed}.json", {"models": rows})
        found[f"seed-{seed}"] = max(history, key=lambda model: model.fitness).what
    return found


EVOLUTION = Strategy("evolution", "aging evolution with short trainings (AmoebaNet, 2019)", propose)
