"""Table 2 made again: what was published, what is searched, and random cells of the same size."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
import torch

from binarch import cli
from binarch.models import NetworkConfig, find_architecture
from binarch.reproduce.table2 import BUDGETS, SYSTEMS, Mode
from binarch.reproduce.table2.line import large_kernels, spread
from binarch.reproduce.table2.twin import TOLERANCE, parameters, twin
from binarch.runs import RunFolder
from binarch.search import STRATEGIES, random_genotype
from binarch.spaces import Cell, Edge, Genotype, published

torch.set_num_threads(1)

#: The supplement's Table 2: method, test error in percent, millions of parameters.
SUPPLEMENT = [
    ("NASNet-A", 2.65, 3.3),
    ("AmoebaNet-A", 3.34, 3.2),
    ("DARTS (first order)", 3.00, 3.3),
    ("DARTS (second order)", 2.76, 3.3),
    ("P-DARTS", 2.50, 3.4),
    ("BATS", 2.70, 2.5),
    ("BATS", 2.40, 3.5),
]


def test_the_rows_are_those_of_the_supplement_in_its_order() -> None:
    listed = [(system.method, system.error, system.params) for system in SYSTEMS.values()]
    assert listed[:-1] == SUPPLEMENT
    assert listed[-1] == ("random cells", None, None)


def test_every_strategy_searches_real_and_binary_cells() -> None:
    for mode, binary in (("real", False), ("binary", True)):
        found = {
            searched.search.strategy: searched
            for system in SYSTEMS.values()
            if (searched := system.searched(mode))  # type: ignore[arg-type]
        }
        assert found.keys() == STRATEGIES.keys()
        assert {searched.search.binarization != "none" for searched in found.values()} == {binary}
        assert {searched.train.binarize[-1] == "both" for searched in found.values()} == {binary}


def test_real_valued_bats_has_the_supplements_rate_and_optimizer() -> None:
    for name in ("bats-2.5m", "bats-3.5m"):
        found = SYSTEMS[name].real
        assert (found.search.strategy, found.search.space, found.search.binarize) == ("bats", "bats", "none")
        assert found.search.softmax_temperature < 1
        assert found.search.learning_rate == 0.1  # SGD with momentum 0.9 in every gradient search
        assert (found.train.optimizer, found.train.learning_rate) == ("sgd", (0.1,))


@pytest.mark.parametrize(("name", "millions"), [("bats-2.5m", 2.60), ("bats-3.5m", 3.49)])
def test_real_valued_bats_has_about_the_published_size(name: str, millions: float) -> None:
    count = parameters(published("pdarts"), SYSTEMS[name].real.train.network)
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_row_fits_its_networks_at_every_scale(name: str, budget: str) -> None:
    system, scale = SYSTEMS[name], BUDGETS[budget]
    for mode in system.modes:
        searched = system.searched(mode)
        if searched is not None:
            search = scale.search(searched.search)
            search.build_space().check(search.channels)
            assert search.data.dataset == "cifar10"
        train = scale.train(system.training(mode), 7)
        assert train.seed == 7
        source = system.published
        for arch in ("pdarts",) if source is None else (source.arch, source.small):
            found = find_architecture(arch)
            stages = tuple(stage.binarize for stage in train.stages)
            train.network.check(found, stages, 10, train.data.image_size or 32)


def test_the_scale_of_the_paper_changes_nothing() -> None:
    for system in SYSTEMS.values():
        assert BUDGETS["paper"].search(system.real.search) == system.real.search
        assert BUDGETS["paper"].train(system.real.train, 0) == system.real.train


def test_trainings_at_the_scale_of_the_paper_are_the_published_ones() -> None:
    known = {  # rate, weight decay, batch, drop-path, cutout, weight of the auxiliary head
        "nasnet-a": (0.025, 5e-4, 32, 0.4, 16, 0.4),
        "amoebanet-a": (0.024, 5e-4, 32, 0.3, 0, 0.5),
        "darts-v1": (0.025, 3e-4, 96, 0.2, 16, 0.4),
        "darts-v2": (0.025, 3e-4, 96, 0.2, 16, 0.4),
        "pdarts": (0.025, 3e-4, 128, 0.3, 16, 0.4),
    }
    for name, settings in known.items():
        for mode in ("published", "real"):
            c = SYSTEMS[name].training(mode)  # type: ignore[arg-type]
            found = (c.learning_rate[0], c.weight_decay[0], c.batch_size, c.drop_path, c.cutout, c.auxiliary_weight)
            assert found == settings
            assert (c.epochs, c.optimizer, c.network.auxiliary, c.network.cells) == ((600,), "sgd", True, 20)
    assert SYSTEMS["nasnet-a"].real.train.network.channels == 32
    counts = {"nasnet-a": 3_346_538, "amoebanet-a": 3_198_962, "darts-v1": 3_169_414, "pdarts": 3_433_798}
    for name, count in counts.items():
        row = SYSTEMS[name].published
        assert row is not None
        assert parameters(find_architecture(row.arch), row.train.network) == count


def test_small_scales_train_all_rows_alike() -> None:
    for name in ("smoke", "cpu"):
        for binary in (False, True):
            modes = ("binary",) if binary else ("published", "real")
            found = {
                (c.optimizer, c.learning_rate, c.epochs, c.weight_decay, c.batch_size, c.data, c.network.cells)
                for system in SYSTEMS.values()
                for mode in system.modes
                if mode in modes
                for c in [BUDGETS[name].train(system.training(mode), 0)]
            }
            assert len(found) == 1


def test_a_twin_is_random_and_of_nearly_the_same_size() -> None:
    network = NetworkConfig(space="darts", cells=3, channels=4)
    target = published("darts-v2")
    first, second = twin(target, network, "a", 0), twin(target, network, "b", 0)
    assert first == twin(target, network, "a", 0)
    assert len({first, second, target}) == 3
    for other in (first, second):
        assert parameters(other, network) == pytest.approx(parameters(target, network), rel=TOLERANCE)


def test_parameters_leave_the_auxiliary_head_out() -> None:
    plain, headed = (
        parameters(published("darts-v1"), NetworkConfig(space="darts", auxiliary=a)) for a in (False, True)
    )
    assert plain == headed == 3_169_414


def test_large_kernels_are_a_share_of_the_convolutions() -> None:
    cell = Cell(((Edge("sep_conv_5x5", 0), Edge("max_pool_3x3", 1)),), (2,))
    other = Cell(((Edge("dil_conv_3x3", 0), Edge("skip_connect", 1)),), (2,))
    assert large_kernels(Genotype(cell, other)) == 0.5
    pools = Cell(((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)),), (2,))
    assert large_kernels(Genotype(pools, pools)) is None


def test_spread() -> None:
    assert [spread(values) for values in ((), (1.0,), (1.0, 2.0))] == ["-", "1.00", "1.50 ± 0.71"]


def test_a_twin_of_the_nasnet_space_keeps_its_rules() -> None:
    network = NetworkConfig(space="nasnet", cells=3, channels=4)
    found = random_genotype(network.build_space("none").rules, torch.Generator().manual_seed(0))
    other = twin(found, network, "a", 0)
    assert len(other.normal.nodes) == 5
    assert parameters(other, network) == pytest.approx(parameters(found, network), rel=TOLERANCE)


def test_a_folder_holds_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.json").write_text('{"table": "table1"}')
    with pytest.raises(SystemExit):
        reproduce(tmp_path, "--rows", "random")
    assert "holds table1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def reproduce(out: Path, *arguments: str) -> None:
    small = ["--budget", "smoke", "--dataset", "digits", "--device", "cpu"]
    cli.main(["reproduce", "table2", "--out", str(out), *small, *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both rows of BATS, real-valued, and one published cell."""
    out = tmp_path_factory.mktemp("table") / "out"
    reproduce(out, "--rows", "bats-2.5m", "bats-3.5m", "--modes", "real")
    reproduce(out, "--rows", "darts-v1", "--modes", "published")
    return out


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    """All files of the run folders: when they were written, and what they hold."""
    found = [path for path in out.glob("*/**/*") if path.is_file()]
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_the_table_is_written(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "table.md", "table.html", "table.json", "bats-2.5m-real-search", "bats-2.5m-real-0", "bats-2.5m-real-random-0",
        "bats-3.5m-real-0", "bats-3.5m-real-random-0", "darts-v1-published-0",
    }  # fmt: skip
    record = json.loads((finished / "table.json").read_text())
    assert [(line["system"], line["mode"]) for line in record["lines"]] == [
        ("darts-v1", "published"), ("bats-2.5m", "real"), ("bats-3.5m", "real"),
    ]  # fmt: skip
    small, large = record["lines"][1:]
    assert small["params"] < large["params"]
    assert small["search_seconds"] == large["search_seconds"] > 0
    searched = RunFolder(finished / "bats-2.5m-real-search").read_json("result.json")
    assert small["search_seconds"] == searched["search_seconds"]
    for line in record["lines"]:
        result = RunFolder(finished / f"{line['system']}-{line['mode']}-0").read_json("result.json")
        assert line["errors"] == [pytest.approx(100 - 100 * result["test_accuracy"])]
        assert len(line["twin_errors"]) == (line["mode"] == "real")
    rows = [row for row in (finished / "table.md").read_text().splitlines() if row.startswith("| ")]
    assert len(rows) == 4
    assert rows[2].startswith("| bats-2.5m | 2.70 | 2.5 M | - | real |")
    assert (finished / "bats-2.5m-real-search" / "cells.svg").is_file()
    page = (finished / "table.html").read_text()
    assert page.count("<svg") == 1
    assert "<?xml" not in page


def test_a_cell_and_its_twin_are_trained_alike(finished: Path) -> None:
    own, other = (RunFolder(finished / f"bats-2.5m-real-{name}").read_json("config.json") for name in ("0", "random-0"))
    assert own["genotype"] != other["genotype"]
    assert {key for key in own if own[key] != other[key]} == {"genotype"}


def test_what_is_finished_is_not_made_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = files(tmp_path / "out")
    reproduce(
        tmp_path / "out", "--rows", "bats-2.5m", "darts-v1", "--modes", "real", "published", "--rows", "bats-2.5m"
    )
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "nobody"], "--rows: 'nobody'"),
        (["--modes", "imaginary"], "binary"),
        (["--seeds", "-1"], "--seeds -1"),
        (["--seeds", "101"], "--seeds 101"),
        (["--recipes", "own"], "--recipes: is for table1"),
        (["--rows", "bats-3.5m", "--modes", "binary"], "bats-3.5m: real"),
        (["--budget", "cpu"], "another --out"),
    ],
)
def test_mistakes_are_named(
    finished: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = files(tmp_path)
    with pytest.raises(SystemExit) as stop:
        reproduce(tmp_path / "out", *arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == before


def test_modes_are_what_a_system_has() -> None:
    assert SYSTEMS["random"].modes == ("real", "binary")
    assert SYSTEMS["bats-3.5m"].modes == ("real",)
    assert SYSTEMS["pdarts"].modes == get_args(Mode)
    with pytest.raises(KeyError, match="binary"):
        SYSTEMS["bats-3.5m"].training("binary")
