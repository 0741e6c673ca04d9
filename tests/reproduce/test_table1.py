"""Table 1 made again: what was published, what is built, and a table that grows run by run."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from binarch import cli
from binarch.models import NetworkConfig, find_architecture
from binarch.reproduce.table1 import BUDGETS, ROWS
from binarch.reproduce.table1.budget import shared
from binarch.runs import RunFolder

torch.set_num_threads(1)

#: The supplement's Table 1, line by line: name here, method, accuracy in percent, architecture, bits.
SUPPLEMENT = [
    ("bc", "BC", 90.1, "VGG-small", "1/32"),
    ("ttq", "TTQ", 91.1, "ResNet-20", "2/32"),
    ("hwgq", "HWGQ", 92.5, "VGG-small", "1/2"),
    ("lq-net", "LQ-Net", 93.4, "VGG-small", "1/2"),
    ("cbcn-resnet18", "CBCN", 91.6, "ResNet-18", "(1/1)x4"),
    ("cbcn-wrn40", "CBCN", 93.4, "WRN40", "(1/1)x4"),
    ("bnn", "BNN", 89.9, "VGG-small", "1/1"),
    ("xnor-net", "XNOR-Net", 89.8, "VGG-small", "1/1"),
    ("ccnn", "CCNN", 92.3, "VGG-small", "1/1"),
    ("ci-net", "CI-Net", 92.5, "VGG-small", "1/1"),
    ("bats", "BATS", 96.1, "BATS", "1/1"),
]

_FC, _SMALL = 14_033_566, 4_660_106
#: Learned numbers of the methods' own networks at the scale of the paper, with what quantizers learn.
PARAMETERS = {
    "bc": _FC,
    "ttq": 269_722 + 2 * 18,  # all but the first and the last of 20 layers have two values
    "hwgq": 4_657_546,  # the last norm alone is affine
    "lq-net": _SMALL,
    "cbcn-resnet18": 775_050,
    "cbcn-wrn40": 8_977_226 - 8_921_088 + 2_230_272,  # a quarter of the filters is stored
    "bnn": _FC,
    "xnor-net": _FC,
    "ccnn": _SMALL + (128 + 256 + 256 + 512 + 512) + 5,  # a factor per filter, one per layer's input
    "ci-net": _SMALL,
}


def test_the_rows_are_those_of_the_supplement_in_its_order() -> None:
    listed = [name for name, *_ in SUPPLEMENT]
    assert [name for name in ROWS if name in listed] == listed
    for name, method, accuracy, architecture, bits in SUPPLEMENT:
        row = ROWS[name]
        assert (row.name, row.method, row.published, row.architecture, row.bits) == (
            name, method, accuracy, architecture, bits,
        )  # fmt: skip


def test_rows_beside_them_are_other_codes_of_the_same_figure() -> None:
    figures = {(accuracy, architecture, bits) for _, _, accuracy, architecture, bits in SUPPLEMENT}
    assert {(row.published, row.architecture, row.bits) for row in ROWS.values()} == figures


def test_one_bit_rows() -> None:
    assert {name for name, row in ROWS.items() if not row.one_bit} == {"bc", "ttq", "hwgq", "lq-net"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_own_networks_have_the_published_sizes(name: str) -> None:
    recipe = next(iter(ROWS[name].recipes.values()))  # own, where it is known
    with torch.device("meta"):
        network = recipe.train.network.build(find_architecture(recipe.arch), 10, recipe.train.stages[-1].binarize, 32)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", ROWS)
def test_every_recipe_fits_its_network_at_every_scale(name: str, budget: str) -> None:
    scale = BUDGETS[budget]
    for recipe in ROWS[name].recipes.values():
        config = scale.train_config(recipe)
        assert (config.data.image_size, config.data.limit) == (scale.image_size, scale.limit)
        assert config.binarize == recipe.train.binarize
        arch = find_architecture(recipe.arch)
        kinds = tuple(stage.binarize for stage in config.stages)
        with torch.device("meta"):
            config.network.check(arch, kinds, 10, scale.image_size)
        if budget == "paper":
            assert config == replace(recipe.train, data=config.data)
        else:
            assert config.network == recipe.cpu_network
            assert sum(config.epochs) == max(scale.epochs, len(config.binarize))


def test_common_recipes_differ_in_their_method_only() -> None:
    found = [row.common for row in ROWS.values() if row.common is not None]
    assert {recipe.arch for recipe in found} == {"vgg-small"}
    one = replace(found[0].train, network=NetworkConfig())
    for recipe in found:
        network = recipe.train.network
        assert (network.where, network.width) == ("inner", 0)
        assert replace(recipe.train, network=NetworkConfig()) == one
    assert len({recipe.train.network.scheme for recipe in found}) == len(found)


@pytest.mark.parametrize(
    "total, published, stages, expected",
    [
        (4, (300,), 1, (4,)),
        (4, (400, 400), 2, (2, 2)),
        (4, (300,), 2, (2, 2)),
        (1, (400, 400), 2, (1, 1)),  # at least one each
        (26, (200, 10, 50), 3, (20, 1, 5)),
        (4, (200, 10, 50), 3, (2, 1, 1)),
        (1, (7,), 1, (1,)),
    ],
)
def test_epochs_are_shared_in_proportion(
    total: int, published: tuple[int, ...], stages: int, expected: tuple[int, ...]
) -> None:
    assert shared(total, published, stages) == expected


def test_small_images_are_cropped_less() -> None:
    def padding(budget: str, row: str) -> int:
        return BUDGETS[budget].train_config(next(iter(ROWS[row].recipes.values()))).crop_padding

    assert [padding(budget, "hwgq") for budget in ("paper", "cpu", "smoke")] == [4, 2, 1]
    assert [padding(budget, "bnn") for budget in ("paper", "cpu", "smoke")] == [0, 0, 0]
    recipes = [recipe for row in ROWS.values() for recipe in row.recipes.values()]
    assert {BUDGETS["cpu"].train_config(recipe).cutout for recipe in recipes} == {0}


def reproduce(out: Path, *arguments: str) -> None:
    cli.main(["reproduce", "table1", "--out", str(out), "--budget", "smoke", "--dataset", "digits", *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows under their own recipes."""
    out = tmp_path_factory.mktemp("table") / "out"
    reproduce(out, "--rows", "bats", "hwgq", "--recipes", "own", "--device", "cpu")
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def runs(out: Path) -> dict[str, tuple[int, bytes]]:
    """All files of the run folders: when they were written, and what they hold."""
    files = [path for path in out.glob("*/**/*") if path.is_file()]
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def table_rows(out: Path) -> list[list[str]]:
    """The Markdown table, cell by cell."""
    lines = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


class Page(HTMLParser):
    """Checks that tags close in order, and collects text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing is left open."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def page(out: Path) -> Page:
    found = Page()
    found.feed((out / "table.html").read_text())
    found.close()
    assert found.open == []
    return found


def test_the_table_is_written(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        "hwgq-own-0", "bats-own-0", "table.md", "table.html", "table.json",
    }  # fmt: skip
    head, rule, *rows = table_rows(finished)
    assert {len(row) for row in (head, rule, *rows)} == {len(head)}
    assert set(rule) == {"---", "---:"}
    assert [row[:3] for row in rows] == [
        ["HWGQ", "1/2", "92.5 (VGG-small)"], ["BATS", "1/1", "96.1 (BATS)"],
    ]  # fmt: skip
    record = json.loads((finished / "table.json").read_text())
    assert record["budget"] == "smoke"
    for line, row in zip(record["lines"], rows, strict=True):
        result = RunFolder(finished / f"{line['row']}-own-0").read_json("result.json")
        assert line["accuracies"] == [pytest.approx(100 * result["test_accuracy"])]
        assert row[3] == f"{line['mean']:.2f}"
        assert row[4] == "1"
        assert line["params"] == result["costs"]["params"]
        assert line["packed_bytes"] > 0
        assert line["packed_ms"] > 0
    text = (finished / "table.md").read_text()
    assert "Budget smoke" in text
    assert "digits, 200 training images of 8 pixels" in text
    for name in ("hwgq", "bats"):
        assert "; ".join(ROWS[name].deviations) in text
        assert (finished / f"{name}-own-0" / "report.html").stat().st_size > 5000


def test_the_page_is_well_formed_and_whole(finished: Path) -> None:
    found = page(finished)
    for name in ("hwgq", "bats"):
        assert ROWS[name].method in found.texts
        assert any(ROWS[name].deviations[0] in text for text in found.texts)
    assert not [link for link in found.loads if not link.startswith("data:")]
    source = (finished / "table.html").read_text()
    assert "<svg" in source
    assert len(re.findall(r"<td[ >]", source)) == 2 * len(table_rows(finished)[0])


def test_what_is_finished_is_not_trained_again(copied: Path) -> None:
    before = runs(copied)
    accuracies = [row[3] for row in table_rows(copied)]
    (copied / "table.md").unlink()
    reproduce(copied, "--rows", "hwgq", "bats", "--recipes", "own", "--device", "cpu")
    assert runs(copied) == before
    assert [row[3] for row in table_rows(copied)] == accuracies


def test_other_rows_and_seeds_join_the_table(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = runs(copied)
    reproduce(copied, "--rows", "xnor-net", "hwgq", "--recipes", "own", "--seeds", "2", "--json")
    assert json.loads(capsys.readouterr().out) == {"runs": 5, "table": str(copied / "table.md")}
    after = runs(copied)
    assert {path: after[path] for path in before} == before
    rows = table_rows(copied)[2:]
    assert [(row[0], row[4]) for row in rows] == [("HWGQ", "2"), ("XNOR-Net", "2"), ("BATS", "1")]
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", rows[0][3])
    assert {"HWGQ", "XNOR-Net", "BATS"} <= set(page(copied).texts)
    seeds = [RunFolder(copied / f"hwgq-own-{seed}").read_json("config.json")["seed"] for seed in (0, 1)]
    assert seeds == [0, 1]
    configs = [RunFolder(copied / f"hwgq-own-{seed}") for seed in (0, 1)]
    assert (configs[0] / "network.safetensors").read_bytes() != (configs[1] / "network.safetensors").read_bytes()


@contextmanager
def interrupted(after: int) -> Iterator[None]:
    """Ctrl-C in step ``after`` of the optimizer."""
    left = [after]

    def look(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    hook = register_optimizer_step_post_hook(look)
    try:
        yield
    finally:
        hook.remove()


def test_an_interrupted_run_is_continued(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rows", "hwgq", "--recipes", "own", "--device", "cpu"]
    with interrupted(1), pytest.raises(SystemExit) as stop:
        reproduce(tmp_path / "out", *arguments)
    assert stop.value.code == 130
    said = capsys.readouterr().err
    assert "the same command continues" in said
    assert "--resume" not in said  # there is no such flag here
    assert (tmp_path / "out" / "hwgq-own-0" / "last.ckpt").is_file()
    assert not (tmp_path / "out" / "hwgq-own-0" / "result.json").exists()
    reproduce(tmp_path / "out", *arguments)
    weights = [(out / "hwgq-own-0" / "network.safetensors").read_bytes() for out in (finished, tmp_path / "out")]
    assert weights[0] == weights[1]
    lines = [json.loads((out / "table.json").read_text())["lines"][0] for out in (finished, tmp_path / "out")]
    assert lines[0]["accuracies"] == lines[1]["accuracies"]


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_mistakes_are_named_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out"), "--dataset", "digits"]
    said = fails(["table1", *out, "--rows", "bnn", "nobody"], capsys)
    assert "--rows: 'nobody'" in said
    assert all(name in said for name in ROWS)
    assert "--seeds -1" in fails(["table1", *out, "--seeds", "-1"], capsys)
    assert "smoke" in fails(["table1", *out, "--budget", "tiny"], capsys)
    assert "own" in fails(["table1", *out, "--recipes", "mine"], capsys)
    assert "table1" in fails(["table9", *out], capsys)
    (tmp_path / "file").write_text("x")
    assert "is a file" in fails(["table1", "--out", str(tmp_path / "file")], capsys)
    assert not (tmp_path / "out").exists()


def test_runs_of_another_budget_are_no_part_of_the_table(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in copied.glob("table.*")}
    for rows in (["hwgq"], ["ttq"]):  # whichever rows are asked for: the table would hold all
        said = fails(
            ["table1", "--out", str(copied), "--dataset", "digits", "--budget", "cpu", "--rows", *rows], capsys
        )
        assert "hwgq-own-0" in said
        assert "another --out" in said
    said = fails(["table1", "--out", str(copied), "--budget", "smoke", "--rows", "ttq"], capsys)
    assert "data.dataset: 'cifar10'" in said
    assert {path.name: path.read_bytes() for path in copied.glob("table.*")} == before
    assert not (copied / "ttq-own-0").exists()


def test_settings_are_those_of_the_recipe_at_the_scale(finished: Path) -> None:
    plain = RunFolder(finished / "hwgq-own-0").read_json("config.json")
    own = ROWS["hwgq"].own
    assert own is not None
    assert (plain["optimizer"], plain["schedule"], plain["epochs"]) == ("sgd", "linear", [1])
    assert plain["data"]["limit"] == 200
    assert plain["network"]["width"] == own.cpu_network.width
    assert plain["arch"] == own.arch
