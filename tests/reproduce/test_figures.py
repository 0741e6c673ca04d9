"""Fig. 1 and Fig. 2 made again: which searches count, what is tested, how modules become diagrams, what is written."""

import json
import shutil
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from binarch import cli
from binarch.errors import UserError
from binarch.nn import Binarization, PReLU
from binarch.report import Diagram
from binarch.reproduce.figures.contrast import MEASURES, Contrast, contrast, mean_sd, other_differences, signed
from binarch.reproduce.figures.finding import Finding, find_searches
from binarch.reproduce.figures.operation import diagram_of, operation_diagram
from binarch.reproduce.figures.permutation import SPLITS, permutation_test
from binarch.runs import RunFolder, to_plain
from binarch.search import SearchConfig
from binarch.spaces import Bats, Cell, Darts, Edge, Genotype

torch.set_num_threads(1)

BY_NAME = {measure.name: measure for measure in MEASURES}


def cell(*nodes: str) -> Cell:
    """ "s3:0 d5:1" per node: sep_conv_3x3 of state 0 and dil_conv_5x5 of state 1."""
    names = {"s": "sep_conv_{0}x{0}", "d": "dil_conv_{0}x{0}", "m": "max_pool_{0}x{0}", "i": "skip_connect"}
    edges = [[(names[word[0]].format(word[1]), int(word[3])) for word in node.split()] for node in nodes]
    pairs = tuple((Edge(*one), Edge(*other)) for one, other in edges)
    return Cell(pairs, tuple(range(2, 2 + len(nodes))))


FLAT = cell("s5:0 s5:1", "d5:0 m3:1")
"""Depth 1: three convolutions of 5, one pool."""
DEEP = cell("s3:0 d3:1", "s3:2 i1:0", "s5:3 i1:1")
"""Depth 3: three convolutions of 3, one of 5, two skips."""
POOLS = cell("m3:0 m3:1", "i1:2 i1:0")
"""Depth 2, no convolution."""


def write_search(folder: Path, genotype: Genotype | None, **changes: object) -> Path:
    """What ``binarch search`` leaves, as far as figures look at it."""
    run = RunFolder(folder)
    run.write_json("config.json", {"verb": "search", **to_plain(SearchConfig(**changes)), "found": {"images": 9}})
    if genotype is not None:
        run.write_json("genotype.json", genotype.to_dict())
    return folder


# Permutation test


def brute_force(one: Sequence[int], other: Sequence[int]) -> Fraction:
    """All splits, in exact arithmetic."""
    numbers = [Fraction(value) for value in (*one, *other)]

    def difference(chosen: tuple[int, ...]) -> Fraction:
        first = [numbers[i] for i in chosen]
        second = [numbers[i] for i in range(len(numbers)) if i not in chosen]
        return abs(sum(first) / len(first) - sum(second) / len(second))

    seen = difference(tuple(range(len(one))))
    splits = list(combinations(range(len(numbers)), len(one)))
    return Fraction(sum(difference(split) >= seen for split in splits), len(splits))


small = st.lists(st.integers(-4, 4), min_size=1, max_size=5)


@settings(max_examples=80, deadline=None)
@given(small, small, st.sampled_from([1.0, 0.1, 100 / 3]))
def test_permutation_test_is_the_brute_force_one(one: list[int], other: list[int], unit: float) -> None:
    found = permutation_test([unit * x for x in one], [unit * x for x in other])
    assert found.exact
    assert found.p == pytest.approx(float(brute_force(one, other)))
    assert found.smallest - 1e-12 <= found.p <= 1
    assert permutation_test(other, one).p == pytest.approx(found.p)


def test_permutation_test_has_known_values() -> None:
    assert permutation_test([1, 2, 3], [4, 5, 6]).p == 2 / 20
    assert permutation_test([1], [2, 3, 4]).p == 2 / 4  # 1 and 4 are equally far from the mean of the others
    assert permutation_test([0], [2, 3, 4]).p == 1 / 4
    assert permutation_test([2, 2], [2, 2]).p == 1
    # Fertilizers A and B of Box, Hunter and Hunter, Statistics for Experimenters, against another implementation
    a, b = [29.9, 11.4, 25.3, 16.5, 21.1], [26.6, 23.7, 28.5, 14.2, 17.9, 24.3]
    found = stats.permutation_test((b, a), lambda x, y: fmean(x) - fmean(y), alternative="greater", n_resamples=1000)
    assert round(462 * found.pvalue) == 154
    assert permutation_test(a, b).splits == 462


def test_many_splits_are_sampled_by_a_seed() -> None:
    one, other = list(range(12)), list(range(3, 15))
    found = permutation_test(one, other)
    assert not found.exact
    assert found.splits == 2_704_156
    assert found == permutation_test(one, other)
    assert found.p == pytest.approx(stats.ttest_ind(one, other).pvalue, abs=0.02)
    apart = permutation_test(range(12), range(100, 112))
    assert apart.p == 1 / (SPLITS + 1), "one split of 2.7 million is as extreme; p is never 0"


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        permutation_test([], [1.0])


# Statistics


def finding(genotype: Genotype, kind: str = "none", **changes: object) -> Finding:
    return Finding(Path(f"runs/{kind}"), to_plain(SearchConfig(**changes)), kind, genotype)


def test_measures_by_hand() -> None:
    values = {name: measure.of(Genotype(FLAT, DEEP)) for name, measure in BY_NAME.items()}
    assert values == {
        "depth, normal cell": 1,
        "depth, reduction cell": 3,
        "3x3 among convolutions": pytest.approx(100 * 3 / 7),
        "5x5 among convolutions": pytest.approx(100 * 4 / 7),
        "mean kernel": pytest.approx((3 * 3 + 4 * 5) / 7),
        "parameter-free edges": pytest.approx(100 * 3 / 10),
    }
    empty = {name: measure.of(Genotype(POOLS, POOLS)) for name, measure in BY_NAME.items()}
    assert empty["5x5 among convolutions"] is None
    assert empty["mean kernel"] is None
    assert empty["parameter-free edges"] == 100


def test_summary_numbers_by_hand() -> None:
    one = contrast(
        BY_NAME["depth, normal cell"],
        [finding(Genotype(FLAT, FLAT), "both"), finding(Genotype(DEEP, FLAT), "both"), finding(Genotype(DEEP, DEEP))],
    )
    assert (one.binary, one.real, one.difference) == ((1, 3), (3,), -1)
    told = one.to_dict()
    assert told["binary"] == {"n": 2, "mean": 2, "sd": pytest.approx(2**0.5), "values": [1, 3]}
    assert told["real"] == {"n": 1, "mean": 3, "sd": None, "values": [3]}
    assert (told["p"], told["splits"], told["exact"]) == (1, 3, True)
    assert mean_sd(one.binary, "edges") == "2.00 ± 1.41"
    assert mean_sd(one.real, "edges") == "3.00"
    assert mean_sd((), "%") == "-"
    assert signed(-12.345, "%") == "-12.3 points"


def test_cells_without_convolutions_are_left_out_of_kernels_only() -> None:
    findings = [finding(Genotype(POOLS, POOLS), "both"), finding(Genotype(FLAT, FLAT))]
    assert contrast(BY_NAME["5x5 among convolutions"], findings).binary == ()
    assert contrast(BY_NAME["depth, normal cell"], findings).binary == (2,)
    one = contrast(BY_NAME["5x5 among convolutions"], findings)
    assert (one.verdict, one.test, one.difference) == ("cannot be told", None, None)
    assert "0 binary and 1 real-valued" in one.reason


@pytest.mark.parametrize(
    ("name", "binary", "real", "verdict", "reason"),
    [
        ("depth, normal cell", [1, 1, 2, 1], [3, 3, 4, 3], "holds", "real -2.00 edges, p = 0.0286, 4 binary and"),
        ("depth, normal cell", [3, 3, 4, 3], [1, 1, 2, 1], "does not hold", "+2.00 edges, p = 0.0286"),
        ("depth, normal cell", [1, 2, 3, 4], [1, 2, 3, 4], "cannot be told", "p = 1, "),
        ("depth, normal cell", [1, 1, 1], [4, 4, 4], "cannot be told", "few: their most extreme outcome has p = 0.1"),
        ("5x5 among convolutions", [90, 80, 95, 99], [10, 0, 5, 9], "holds", "+85.0 points"),
        ("5x5 among convolutions", [10, 0, 5, 9], [90, 80, 95, 99], "does not hold", "-85.0 points"),
    ],
)  # fmt: skip
def test_claims_are_read_off_the_numbers(
    name: str, binary: list[float], real: list[float], verdict: str, reason: str
) -> None:
    one = Contrast(BY_NAME[name], tuple(binary), tuple(real))
    assert one.verdict == verdict
    assert reason in one.reason


def test_other_differences_are_told() -> None:
    same, other = Genotype(FLAT, FLAT), {"strategy": "random", "epochs": (3,)}
    assert other_differences([finding(same, "both", seed=(1,)), finding(same, seed=(2,), binarize="none")]) == {}
    found = other_differences([finding(same, "both"), finding(same, "none", **other)])
    assert found == {"strategy": (["bats"], ["random"]), "epochs": (["[50]"], ["[3]"])}
    older = finding(same, "none", clip=1.0)
    del older.settings["clip"]  # type: ignore[attr-defined]
    assert other_differences([finding(same, "both"), older]) == {}


# Folders


def test_searches_are_found_at_any_depth_and_told_apart(tmp_path: Path) -> None:
    one, other = Genotype(FLAT, DEEP), Genotype(DEEP, FLAT)
    write_search(tmp_path / "a", one)
    write_search(tmp_path / "study" / "b" / "c", other, binarize="none")
    write_search(tmp_path / "study" / "d", other, space="darts")
    write_search(tmp_path / "study" / "e", one, binarize="both", seed=(1, 2))
    write_search(tmp_path / "unfinished", None)
    (tmp_path / "a" / "seed-0").mkdir()
    shutil.copy(tmp_path / "a" / "genotype.json", tmp_path / "a" / "seed-0")  # a seed of it is no search of its own
    RunFolder(tmp_path / "t").write_json("config.json", {"verb": "train"})
    RunFolder(tmp_path / "t").write_json("genotype.json", one.to_dict())
    found = find_searches([tmp_path])
    assert [(f.folder.name, f.binarization, f.binary, f.space, f.seeds) for f in found] == [
        ("a", "activations", True, "bats", "0"),  # the default of the bats space
        ("c", "none", False, "bats", "0"),
        ("d", "none", False, "darts", "0"),  # the default of the darts space
        ("e", "both", True, "bats", "1 2"),
    ]
    assert found[0].genotype == one
    assert find_searches([tmp_path / "a"]) == found[:1]


def test_a_search_counts_once(tmp_path: Path) -> None:
    write_search(tmp_path / "a", Genotype(FLAT, DEEP))
    write_search(tmp_path / "copy", Genotype(FLAT, DEEP), device="cpu")
    write_search(tmp_path / "seed", Genotype(FLAT, DEEP), seed=(1,))
    found = find_searches([tmp_path / "a", tmp_path, tmp_path])
    assert [f.folder.name for f in found] == ["a", "seed"]


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: is no folder"):
        find_searches([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"no finished search; make one with binarch search"):
        find_searches([tmp_path])
    folder = write_search(tmp_path / "a", Genotype(FLAT, DEEP))
    config = json.loads((folder / "config.json").read_text())
    for change, said in (({"binarize": "some"}, "config.json"), ({"seed": ...}, "does not say seed")):
        changed = {name: value for name, value in {**config, **change}.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=said):
            find_searches([tmp_path])
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        find_searches([tmp_path])
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "genotype.json").write_text('{"schema": 1}')
    with pytest.raises(UserError, match=r"genotype.json.*normal"):
        find_searches([tmp_path])


# Operations


def titles(diagram: Diagram) -> list[str]:
    return [" ".join((step.title, *step.details)) for step in diagram.steps]


def operation(space: str, kind: str, **changes: int) -> Diagram:
    return operation_diagram(space, kind, **{"channels": 24, "groups": 12, **changes})


def test_operations_of_the_darts_space() -> None:
    separable = ["ReLU", "depthwise conv k × k", "conv 1 × 1", "BN"]
    assert titles(operation("darts", "sep_conv")) == 2 * separable
    separable[1] += " dilation 2"
    assert titles(operation("darts", "dil_conv")) == separable
    assert operation("darts", "dil_conv").shortcuts == ()
    assert [step.inputs for step in operation("darts", "dil_conv").steps] == [(0,), (1,), (2,), (3,)]


def test_operations_of_the_bats_space() -> None:
    found = operation("bats", "sep_conv")
    assert titles(found) == ["BN", "sign", "binary conv k × k 12 groups", "PReLU", "channel shuffle 4 groups", "sum"]
    assert found.shortcuts == ((0, 6),), "x + f(x)"
    assert "binary conv k × k 12 groups dilation 2" in titles(operation("bats", "dil_conv"))


def test_diagrams_follow_the_module() -> None:
    assert "binary conv k × k 6 groups" in titles(operation("bats", "sep_conv", groups=6))
    assert "binary conv k × k" in titles(operation("bats", "sep_conv", groups=1))
    strided = operation("bats", "sep_conv", stride=2)
    assert titles(strided)[-1] == "channel shuffle 4 groups"
    assert strided.shortcuts == (), "no sum with stride 2"
    assert "binary conv k × k 12 groups stride 2" in titles(strided)
    assert [title for title in titles(operation("darts", "sep_conv", stride=2)) if "stride" in title] == [
        "depthwise conv k × k stride 2"
    ]
    real = diagram_of(Bats(Binarization("none"), 12).primitive("sep_conv_5x5", 24, 1))
    assert titles(real) == ["BN", "conv 5 × 5 12 groups", "PReLU", "channel shuffle 4 groups", "sum"]
    half = diagram_of(Bats(Binarization("activations"), 12).primitive("sep_conv_5x5", 24, 1))
    assert titles(half)[1:3] == ["sign", "conv 5 × 5 12 groups"]
    wide = diagram_of(Bats(Binarization("both"), 12).primitive("conv_7x1_1x7", 24, 1))
    assert [title for title in titles(wide) if "conv" in title] == ["binary conv 1 × 7", "binary conv 7 × 1"]
    assert wide.shortcuts == ((0, 10),)
    module = Darts(Binarization("none")).primitive("dil_conv_3x3", 24, 1)
    assert isinstance(module, nn.Sequential)
    module[0] = nn.Hardtanh()  # a layer that nobody taught has its own name
    assert titles(diagram_of(module))[0] == "Hardtanh"


class Branches(nn.Module):
    """tanh(f(x) + x) + f(x), then twice that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same = nn.Conv2d(4, 4, 3), PReLU(4)

    def forward(self, x: Tensor) -> Tensor:
        f = self.same(self.conv(x))
        y = torch.add(torch.tanh(f + x), f)
        return y + y


def test_any_graph_of_layers_is_followed() -> None:
    found = diagram_of(Branches())
    assert titles(found) == ["conv 3 × 3", "PReLU", "sum", "tanh", "sum", "sum"]
    assert [step.inputs for step in found.steps] == [(0,), (1,), (2, 0), (3,), (4, 2), (5, 5)]
    assert found.shortcuts == ((5, 6), (0, 3), (2, 5)), "short ones first"
    assert titles(diagram_of(nn.Identity())) == []


# What is written


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two binary searches, the second of strategy bats, and a real one."""
    root = tmp_path_factory.mktemp("searches")
    write_search(root / "binary" / "0", Genotype(DEEP, POOLS), strategy="darts")
    write_search(root / "binary" / "1", Genotype(FLAT, FLAT))
    write_search(root / "real", Genotype(DEEP, DEEP), binarize="none", space="darts", strategy="darts")
    return root


@pytest.fixture(scope="module")
def written(searches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "figures"
    cli.main(["reproduce", "figures", "--out", str(out), "--cells", str(searches / "binary"), str(searches / "real")])
    return out


def test_files_are_written(written: Path) -> None:
    names = {f"fig{number}.{form}" for number in (1, 2) for form in ("svg", "pdf", "png")}
    assert {path.name for path in written.iterdir()} == names | {"figures.md", "figures.html", "figures.json"}
    for form, magic in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        assert all((written / f"fig{number}.{form}").read_bytes().startswith(magic) for number in (1, 2))


def test_captions_name_the_searches_and_the_bats_strategy_is_preferred(written: Path, searches: Path) -> None:
    text = (written / "figures.md").read_text()
    (caption,) = (line for line in text.splitlines() if line.startswith("**Fig. 1.**"))
    assert f"strategy bats in the bats space, binarization activations, seed 0; {searches / 'binary' / '1'}" in caption
    assert f"strategy darts in the darts space, binarization none, seed 0; {searches / 'real'}" in caption
    page = (written / "figures.html").read_text()
    drawn = page[page.index("<svg") : page.index("<figcaption>")]
    assert all(word in drawn for word in ("(a) Normal cell, binary", "(d) Reduction cell, real-valued"))
    assert "grouped" in drawn  # binary: the bats space
    assert ">sep conv<" in drawn  # real: the darts space


def test_the_table_is_aligned_and_true(written: Path) -> None:
    lines = (written / "figures.md").read_text().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    for table in (tables[:8], tables[8:]):
        assert len({len(line) for line in table}) == 1
    rows = {cells[1]: cells for cells in ([cell.strip() for cell in line.split("|")] for line in tables)}
    assert rows["depth, normal cell (edges)"][2:9] == [
        "2", "2.00 ± 1.41", "1", "3.00", "-1.00 edges", "1", "all 3",
    ]  # fmt: skip
    assert rows["5x5 among convolutions (%)"][2:4] == ["2", "62.5 ± 53.0"]
    assert "space (bats | darts)" in "\n".join(lines), "settings that differ too are told"
    claims = [line for line in lines if line.startswith("- ")]
    assert len(claims) == 3
    assert all("**cannot be told**" in claim and "too few" in claim for claim in claims)


def test_the_record_holds_everything(written: Path, searches: Path) -> None:
    record = json.loads((written / "figures.json").read_text())
    assert [measure["measure"] for measure in record["measures"]] == list(BY_NAME)
    assert record["measures"][0]["verdict"] == "cannot be told"
    assert [Genotype.from_dict(one["genotype"]) for one in record["searches"]] == [
        Genotype(DEEP, POOLS), Genotype(FLAT, FLAT), Genotype(DEEP, DEEP),
    ]  # fmt: skip
    assert record["searches"][2]["folder"] == str(searches / "real")


def test_the_page_loads_nothing_and_names_nothing_twice(written: Path) -> None:
    page = (written / "figures.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 2
    assert "src=" not in page
    assert "http" not in page.replace("http-equiv", "")
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    for word in ("Fig. 1.", "Fig. 2.", "channel shuffle", "cannot be told", "binary minus real"):
        assert word in page


def test_without_cells_fig_2_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["reproduce", "figures", "--out", str(tmp_path), "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out) == {"fig2": str(tmp_path / "fig2.pdf"), "page": str(tmp_path / "figures.html")}
    assert "--binarize none" in err
    assert "--binarize none" in (tmp_path / "figures.md").read_text()
    assert not list(tmp_path.glob("fig1*"))


def test_mistakes_leave_nothing_behind(searches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main(["reproduce", "figures", *arguments])
        assert stop.value.code == 2
        return capsys.readouterr().err

    out = ["--out", str(tmp_path / "out")]
    said = fails(*out, "--cells", str(searches / "binary"))
    assert "real-valued" in said
    assert "binarch search --binarize none" in said
    assert "binarch search --binarize activations" in fails(*out, "--cells", str(searches / "real"))
    assert "is no folder" in fails(*out, "--cells", str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    assert "is a file" in fails("--out", str(tmp_path / "file"))
    assert not (tmp_path / "out").exists()
