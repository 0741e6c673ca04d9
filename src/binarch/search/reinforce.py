"""Search by reinforcement (Zoph et al., CVPR 2018), as NASNet was found: a controller draws, rewards teach it."""

from collections.abc import Sequence

import torch

from binarch.data import Dataset, derive_seed
from binarch.runs import RunFolder
from binarch.search.candidates import Candidates
from binarch.search.config import SearchConfig
from binarch.search.controller import Controller, Decision, Learner
from binarch.search.evaluation import Job
from binarch.search.executor import Executor
from binarch.search.strategy import Strategy
from binarch.spaces import CellRules, Edge, Genotype
from binarch.training import Display

#: Rate of the controller. NASNet has 3.5e-4 and 20,000 models; with tens of models it must learn faster.
CONTROLLER_LEARNING_RATE = 5e-3


def decisions(rules: CellRules) -> list[Decision]:
    """For both cells, node by node: first source, second source, first primitive, second primitive.

    The second source is another one than the first, unless ``rules`` lets a node read one state twice.
    """
    found: list[Decision] = []
    primitive = Decision(len(rules.operations))
    for _ in ("normal", "reduce"):
        for states in range(2, rules.nodes + 2):
            second = Decision(states, unlike=None if rules.repeats else len(found))
            found += [Decision(states), second, primitive, primitive]
    return found


def genotype_of(choices: Sequence[int], rules: CellRules) -> Genotype:
    """The genotype that a row of decisions stands for."""
    half = len(choices) // 2
    cells = []
    for part in (choices[:half], choices[half:]):
        nodes = []
        for at in range(0, half, 4):
            first, second, *names = part[at : at + 4]
            one, two = (rules.operations[name] for name in names)
            low, high = sorted((Edge(one, first), Edge(two, second)), key=lambda edge: edge.source)
            nodes.append((low, high))
        cells.append(rules.cell(nodes))
    return Genotype(*cells)


def propose(
    config: SearchConfig, dataset: Dataset, folder: RunFolder, display: Display, executor: Executor
) -> dict[str, Genotype]:
    """The best of each seed's models, which stay in ``reinforce-SEED.json``.

    ``population`` models are drawn and scored together, then the controller learns. Drawing and learning depend on the
    seed and on the rewards alone: a search that was stopped reads the finished trainings back and comes to the same
    controller.
    """
    rules = config.build_space().rules
    found = {}
    for seed in config.seed:
        candidates = Candidates(f"Reinforce, seed {seed}", config.candidates, folder, executor, display)
        torch.manual_seed(derive_seed(seed, "controller"))
        learner = Learner(Controller(decisions(rules)), CONTROLLER_LEARNING_RATE)
        rows: list[dict] = []
        for first in range(0, config.candidates, config.population):
            indices = range(first, min(first + config.population, config.candidates))
            drawn = [learner.controller.sample(_generator(seed, index)) for index in indices]
            records = candidates.scores(
                [
                    Job(f"seed-{seed}-model-{index:04d}", genotype_of(choices, rules))
                    for index, choices in zip(indices, drawn, strict=True)
                ]
            )
            rows += [
                {"index": index, "fitness": record.validation_accuracy, "genotype": record.genotype.to_dict()}
                for index, record in zip(indices, records, strict=True)
            ]
            if len(drawn) == config.population:
                learner.learn(list(zip(drawn, (record.validation_accuracy for record in records), strict=True)))
        folder.write_json(f"reinforce-{seed}.json", {"models": rows})
        folder.child(f"seed-{seed}").write_json("result.json", {"search_seconds": candidates.seconds})
        found[f"seed-{seed}"] = Genotype.from_dict(max(rows, key=lambda row: row["fitness"])["genotype"])
    return found


def _generator(seed: int, index: int) -> torch.Generator:
    """Model number ``index`` draws from a generator of its own."""
    return torch.Generator().manual_seed(derive_seed(seed, "reinforce", index))


REINFORCE = Strategy("reinforce", "an LSTM controller taught by PPO, with short trainings (NASNet, 2018)", propose)
