"""Whole searches at toy size."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from binarch.data import DataConfig, Dataset, load
from binarch.errors import UserError
from binarch.runs import RunFolder
from binarch.search import SearchConfig, search
from binarch.search.differentiable import halves, search_gradient
from binarch.spaces import Genotype
from binarch.training import Display
from binarch.training.device import make_fabric

TINY = SearchConfig(
    data=DataConfig(limit=80), cells=(3,), channels=4, groups=2, epochs=(2,), batch_size=16,
    alpha_learning_rate=0.05, crop_padding=1, flip="none", rank_epochs=1, candidates=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TINY.data)


def quiet() -> Display:
    return Display(console=Console(quiet=True))


@pytest.mark.parametrize("strategy", ["bats", "darts", "darts-second"])
@pytest.mark.parametrize("space", ["bats", "darts"])
def test_gradient_strategies_search_both_spaces(strategy: str, space: str, digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, strategy=strategy, space=space)
    genotype = search(config, digits, RunFolder(tmp_path), quiet())
    assert Genotype.load(tmp_path / "genotype.json") == genotype
    rows = RunFolder(tmp_path).metrics()
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[0]["entropy_max"] == pytest.approx(2.0794, abs=1e-4)
    assert rows[1]["entropy_normal"] < rows[0]["entropy_normal"] < rows[0]["entropy_max"] + 1e-6
    assert Genotype.load(tmp_path / "seed-0" / "genotypes" / "epoch_001.json") == genotype
    result = RunFolder(tmp_path).read_json("result.json")
    assert 0 <= result["derived_validation_accuracy"] <= 1
    assert result["costs"]["binary_macs"] > 0 if space == "bats" else result["costs"]["binary_macs"] == 0


@pytest.mark.parametrize(
    "strategy", ["darts", pytest.param("pdarts", marks=pytest.mark.slow), "random", "evolution", "reinforce"]
)
def test_strategies_search_the_nasnet_space(strategy: str, digits: Dataset, tmp_path: Path) -> None:
    keep = (9,) if strategy == "pdarts" else ()
    config = replace(TINY, strategy=strategy, space="nasnet", epochs=(1,), batch_size=40, population=1, keep=keep)
    genotype = search(config, digits, RunFolder(tmp_path), quiet())
    assert Genotype.load(tmp_path / "genotype.json") == genotype
    for cell in (genotype.normal, genotype.reduce):
        assert len(cell.nodes) == 5
        unread = set(range(2, 7)) - {edge.source for edge in cell.edges}
        assert set(cell.concat) == (set(range(2, 7)) if "darts" in strategy else unread)
    if strategy == "pdarts":
        rows = RunFolder(tmp_path).metrics()
        assert [len(row["operations_normal"][0]) for row in rows] == [13, 9]


def test_the_number_of_candidates_is_the_space_s() -> None:
    assert replace(TINY, space="nasnet", keep=(12, 3)).stages[0].keep == 12
    with pytest.raises(UserError, match=r"keep: .*below 13"):
        replace(TINY, space="nasnet", keep=(13,))
    with pytest.raises(UserError, match="binarize: 'both'"):
        replace(TINY, space="nasnet", binarize="both").build_space()
    with pytest.raises(UserError, match="space: 'cube'"):
        replace(TINY, space="cube")


@pytest.mark.parametrize("binarize", ["none", "activations", "both"])
def test_every_binarization_can_be_searched(binarize: str, digits: Dataset, tmp_path: Path) -> None:
    search(replace(TINY, binarize=binarize, epochs=(1,)), digits, RunFolder(tmp_path), quiet())


def test_stages_shrink_the_candidates_and_deepen_the_network(digits: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, keep=(5, 3), cells=(3, 4, 5), epochs=(1,), max_skips=1)
    genotype = search(config, digits, RunFolder(tmp_path), quiet())
    rows = RunFolder(tmp_path).metrics()
    assert [len(row["operations_normal"][0]) for row in rows] == [8, 5, 3]
    for before, after in itertools.pairwise(rows):
        for old, new in zip(before["operations_reduce"], after["operations_reduce"], strict=True):
            assert set(new) < set(old)
    assert genotype.normal.count("skip") <= 1


def test_several_seeds_and_random_cells_are_ranked_by_validation(digits: Dataset, tmp_path: Path) -> None:
    for name, config in (
        ("seeds", replace(TINY, seed=(0, 7), epochs=(1,))),
        ("random", replace(TINY, strategy="random")),
    ):
        genotype = search(config, digits, RunFolder(tmp_path / name), quiet())
        result = RunFolder(tmp_path / name).read_json("result.json")
        rows = result["candidates"]
        assert len(rows) == 2
        assert rows[0]["validation_accuracy"] >= rows[1]["validation_accuracy"]
        assert result["selected"] == rows[0]["name"]
        assert Genotype.from_dict(rows[0]["genotype"]) == genotype
        ranked = RunFolder(tmp_path / name / f"rank-{rows[0]['name']}").read_json("result.json")
        assert "test_accuracy" not in ranked
        spent = {"search_seconds", "rank_seconds"} & set(result)
        assert spent == ({"search_seconds"} if name == "random" else {"search_seconds", "rank_seconds"})
        assert all(result[key] > 0 for key in spent)


def test_the_same_seed_finds_the_same_and_another_differs(digits: Dataset, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search_gradient(TINY, seed, digits, RunFolder(tmp_path / name), quiet())
    states = {name: RunFolder(tmp_path / name).load_checkpoint()["task"]["supernet"] for name in "abc"}
    assert all(torch.equal(states["a"][key], states["b"][key]) for key in states["a"])
    assert not torch.equal(states["a"]["alphas_normal"], states["c"]["alphas_normal"])


def test_weights_learn_alone_while_warming_up(digits: Dataset, tmp_path: Path) -> None:
    search_gradient(replace(TINY, warmup_epochs=2, epochs=(3,)), 0, digits, RunFolder(tmp_path), quiet())
    rows = RunFolder(tmp_path).metrics()
    assert rows[0]["alphas_normal"] == rows[1]["alphas_normal"] != rows[2]["alphas_normal"]


def test_bfloat16_searches(digits: Dataset, tmp_path: Path) -> None:
    search(replace(TINY, precision="bf16", epochs=(1,)), digits, RunFolder(tmp_path), quiet())


def test_halves_are_balanced_shared_and_in_random_order(digits: Dataset) -> None:
    first, second = halves(digits, make_fabric("cpu", "32"))
    assert len(first) + len(second) == len(digits.train)
    for half in (first, second):
        assert (half.labels.bincount() - digits.train.labels.bincount() / 2).abs().max() <= 0.5
        assert not torch.equal(half.labels, half.labels.sort().values)
    assert torch.equal(halves(digits, make_fabric("cpu", "32"))[1].pixels, second.pixels)


def test_a_finished_search_is_read_back_and_other_settings_are_refused(digits: Dataset, tmp_path: Path) -> None:
    genotype = search(TINY, digits, RunFolder(tmp_path), quiet())
    stamp = (tmp_path / "result.json").stat().st_mtime_ns
    assert search(TINY, digits, RunFolder(tmp_path), quiet(), resume=True) == genotype
    with pytest.raises(UserError, match="--resume auto"):
        search(TINY, digits, RunFolder(tmp_path), quiet())
    with pytest.raises(UserError, match=r"channels: 8 .*\(4\)"):
        search(replace(TINY, channels=8), digits, RunFolder(tmp_path), quiet(), resume=True)
    assert (tmp_path / "result.json").stat().st_mtime_ns == stamp


def test_the_search_never_opens_the_test_set(digits: Dataset, tmp_path: Path) -> None:
    def refuse() -> None:
        raise AssertionError("the test set was read")

    closed = Dataset(digits.name, digits.classes, digits.train, digits.mean, digits.std, refuse)
    search(replace(TINY, seed=(0, 1), epochs=(1,)), closed, RunFolder(tmp_path), quiet())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keep", (9,)),
        ("keep", (5, 5)),
        ("keep", (1,)),
        ("cells", (2,)),
        ("warmup_epochs", 2),
        ("warmup_epochs", -1),
        ("crop_padding", -1),
        ("alpha_weight_decay", -1.0),
        ("epochs", (0,)),
        ("epochs", (1, 2)),
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("seed", ()),
        ("seed", (1, 1)),
        ("candidates", 0),
        ("rank_epochs", 0),
        ("brood", 0),
        ("brood", 21),
        ("workers", 0),
        ("max_skips", -1),
        ("clip", 0.0),
    ],
)
def test_impossible_settings_name_themselves(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{field}"):
        replace(TINY, **{field: value})


def test_temperature_belongs_to_bats() -> None:
    with pytest.raises(UserError, match="temperature"):
        replace(TINY, strategy="darts", temperature=0.1)
    assert replace(TINY, strategy="darts").softmax_temperature == 1.0
    assert 0 < TINY.softmax_temperature < 1
