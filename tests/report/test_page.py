import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from binarch.errors import UserError
from binarch.report import write_report
from binarch.report.charts import ENTROPY, curve_chart, edge_names, weight_map
from binarch.runs import RunFolder
from binarch.spaces.published import published

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Checker(HTMLParser):
    """Checks that tags balance; keeps ids, attributes that load something, and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href", "srcset", "data", "action", "xlink:href"}:
                self.loads.append(value or "")
            self.references += re.findall(r"url\(#([^)]*)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def check(page: Path) -> Checker:
    checker = Checker()
    checker.feed(page.read_text())
    checker.close()
    assert not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.references) <= set(checker.ids)
    assert "script" not in checker.tags
    assert not any(re.match(r"(?:https?:)?//|data:text|javascript:", load) for load in checker.loads)
    assert not re.search(r"@import|url\((?!#)", page.read_text())
    for load in checker.loads:
        assert load.startswith(("./", "#"))
        if load.startswith("#"):
            assert load[1:] in checker.ids
    return checker


@pytest.fixture(scope="module")
def page(demo_run: Path) -> Checker:
    path = write_report(demo_run)
    assert path == demo_run / "report.html"
    return check(path)


def test_key_figures_are_told(page: Checker) -> None:
    for figure in ("91.3 %", "88.7 %", "3.42 M", "95.0 %", "611 kB", "2 h 14 min", "16 min 40 s"):
        assert figure in page.text


def test_a_demo_tells_search_then_training(page: Checker) -> None:
    places = [page.text.index(f"\n{part}\n") for part in ("Final cells", "Search", "Training", "Candidates", "Cost")]
    assert places == sorted(places)
    assert "20 epochs · 812 images per second" in page.text
    assert "30 epochs · 1,490 images per second" in page.text
    assert "dil. grouped conv 5x5" in page.text
    assert "Entropy of the architecture weights" in page.text


def test_everything_is_escaped(page: Checker, demo_run: Path) -> None:
    text = (demo_run / "report.html").read_text()
    assert "<script" not in text
    assert "<b>fast</b>" not in text
    assert "<script>alert('cat')</script>" in page.text
    assert "A <b>fast</b> one" in page.text


def test_about_eight_epochs_are_shown(page: Checker) -> None:
    shown = [int(epoch) for epoch in re.findall(r"epoch (\d+)", page.text)]
    assert len(shown) == 8
    assert (shown[0], shown[-1]) == (1, 20)
    assert sum(name.startswith("frame-") for name in page.ids) == 8


def test_children_are_listed_and_linked(page: Checker) -> None:
    assert "./train/report.html" in page.loads
    assert "./search/report.html" not in page.loads
    assert "search/seed-0" in page.text
    assert "63.4 %" in page.text


def test_the_ranking_marks_the_selected(page: Checker) -> None:
    names = re.findall(r"candidate-\d(?:selected)?", page.text)
    assert names == ["candidate-0selected", "candidate-1", "candidate-2"]


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_json("genotype.json", published("darts-v2").to_dict())
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", {"verb": "train", "data": {"crop": {"size": 32}}}, "crop.size"),
        ("env.json", {"cpu": "one", "gpu": None}, "–"),
        ("result.json", {"test_accuracy": 0.5}, "50.0 %"),
        ("result.json", {"candidates": [{"name": "only"}, 3, {}], "costs": {"params": "many"}}, "only"),
        ("result.json", {"costs": {"binary_macs": 3, "float_macs": 1}}, "75.0 %"),
        ("result.json", {"warnings": ["slow", None], "classes": [1, 2], "test_accuracy": "high"}, "slow"),
        ("genotype.json", published("amoebanet").to_dict(), "sep conv 7x7"),
        ("seed-1/config.json", {"verb": "search"}, "seed-1"),
    ],
)
def test_any_part_may_be_missing(tmp_path: Path, name: str, content: dict, told: str) -> None:
    RunFolder(tmp_path).write_json(name, content)
    assert told in check(write_report(tmp_path)).text


def test_search_time_is_summed_where_the_result_does_not_say(tmp_path: Path) -> None:
    rows = [{"phase": "search", "epoch": k, "seconds": 50.0, "train_loss": 1.0} for k in range(3)]
    RunFolder(tmp_path).write_metrics(rows)
    assert "2 min 30 s" in check(write_report(tmp_path)).text


def test_seeds_share_a_chart(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for seed in range(2):
        child = run.child(f"seed-{seed}")
        child.write_json("config.json", {"verb": "train"})
        child.write_metrics([{"phase": "train", "epoch": k, "train_loss": 2.0 - k - seed} for k in range(2)])
    page = check(write_report(tmp_path))
    assert "2 seeds, up to 2 epochs each" in page.text
    assert page.tags.count("svg") == 1


def test_damaged_files_are_named_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "result.json").write_text("[1]")
    (tmp_path / "genotype.json").write_text(json.dumps({"schema": 99}))
    (tmp_path / "metrics.jsonl").write_text('{"phase": "train", "train_loss": NaN, "epoch": 0}\n{"phase"\n3\n')
    text = check(write_report(tmp_path)).text
    assert "config.json cannot be read" in text
    assert "result.json cannot be read" in text
    assert "schema 99 is unknown" in text
    assert "2 of 3 epochs cannot be read" in text


@pytest.mark.parametrize("kind", ["empty", "absent", "other"])
def test_what_is_no_run_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run" if kind == "absent" else tmp_path
    if kind == "other":
        (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="no run folder"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_strange_rows_do_not_stop_a_chart() -> None:
    rows = [{"entropy_normal": value, "epoch": "x", "stage_name": "$x_$"} for value in (1.0, None, "a", 0.5)]
    assert curve_chart(ENTROPY, [rows]) is not None
    assert curve_chart(ENTROPY, [[{"entropy_normal": None}]]) is None


def test_edges_know_their_own_operations() -> None:
    figure = weight_map("t", [[0.25, 0.75], [1.0]], [["none", "skip_connect"], ["sep_conv_3x3"]], "bats")
    assert figure is not None
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"none", "skip", "grouped conv 3x3", "0.25", "0.75", "1.00", "cₖ₋₂ → 0"} <= set(texts)
    assert weight_map("t", [], None, None) is None
    assert weight_map("t", [["x"]], "y", None) is None


def test_edge_names_follow_the_order_of_a_full_cell() -> None:
    assert edge_names(5) == ["cₖ₋₂ → 0", "cₖ₋₁ → 0", "cₖ₋₂ → 1", "cₖ₋₁ → 1", "0 → 1"]
    assert edge_names(3) == ["edge 0", "edge 1", "edge 2"]
