"""Dropout on skips: its schedule, and the same mixture on average in the naive and in the fast supernet."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from binarch.data import DataConfig, load
from binarch.errors import UserError
from binarch.nn import Binarization
from binarch.runs import RunFolder
from binarch.search import EdgeOperations, SearchConfig, Supernet, search
from binarch.search.naive import NaiveCell
from binarch.search.skip_dropout import SkipDropout, skip_dropout_rate
from binarch.search.supernet import fast_cell
from binarch.spaces import Bats, Darts, Space
from binarch.training import Display


@pytest.mark.parametrize("epoch, rate", [(0, 0.672), (9, 0.420), (10, 0.700), (24, 0.0426)])
def test_the_published_schedule(epoch: int, rate: float) -> None:
    assert skip_dropout_rate(0.7, epoch, 25, 10) == pytest.approx(rate, abs=5e-5)
    assert skip_dropout_rate(0.0, epoch, 25, 10) == 0


@pytest.mark.parametrize("space", [Bats(Binarization("none"), 2), Darts(Binarization("none"))])
@pytest.mark.parametrize("fast", [False, True])
def test_on_average_the_mixture_stays(space: Space, fast: bool) -> None:
    torch.manual_seed(0)
    operations = EdgeOperations(1, (("skip_connect", "max_pool_3x3", "sep_conv_3x3"),) * 2)
    dropout = SkipDropout()
    cell = NaiveCell(space, operations, (4, 4), 4, reduction=False, halve_first=False, skip_dropout=dropout)
    run = fast_cell(cell, space) if fast else cell
    x, weights = torch.randn(2, 2, 4, 6, 6), torch.rand(2, 3)
    plain = run(x[0], x[1], weights)
    dropout.probability = 0.5
    many = x.repeat(1, 3000, 1, 1, 1)  # batch norms see the same statistics as in two images
    with torch.no_grad():
        drawn = run(many[0], many[1], weights).unflatten(0, (3000, 2))
    error = drawn.std(0) / 3000**0.5
    assert error.mean() > 0.002
    assert ((drawn.mean(0) - plain).abs() < 5 * error + 1e-5).all()
    run.eval()
    torch.testing.assert_close(run(x[0], x[1], weights), plain)


def test_edges_draw_for_themselves() -> None:
    """Two nodes that skip the same source: with p near 1 almost nothing is kept in both."""
    torch.manual_seed(0)
    space, dropout = Bats(Binarization("none"), 2), SkipDropout(0.9)
    full = EdgeOperations(2, (("skip_connect",),) * 5)
    cell = fast_cell(NaiveCell(space, full, (4, 4), 4, reduction=False, halve_first=False, skip_dropout=dropout), space)
    weights = torch.tensor([[1.0], [0.0], [1.0], [0.0], [0.0]])
    y = cell(torch.randn(1, 4, 32, 32), torch.randn(1, 4, 32, 32), weights)
    first, second = (y[:, :4] != 0), (y[:, 4:] != 0)
    assert first.float().mean() == pytest.approx(0.1, abs=0.02)
    assert (first & second).float().mean() == pytest.approx(0.01, abs=0.005)


def test_a_supernet_has_one_dropout() -> None:
    space = Bats(Binarization("none"), 2)
    full = EdgeOperations.full(space.rules)
    net = Supernet(space, {"normal": full, "reduce": full}, channels=4, cells=3, classes=2)
    net.set_skip_dropout(0.3)
    assert {m.probability for m in net.modules() if isinstance(m, SkipDropout)} == {0.3}
    assert not any("skip_dropout" in name for name in net.state_dict())


def test_pdarts_goes_in_stages(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keep: pdarts"):
        SearchConfig(strategy="pdarts")
    config = SearchConfig(
        data=DataConfig(limit=60), strategy="pdarts", space="darts", cells=(3, 3, 4), channels=4, epochs=(2,),
        keep=(5, 3),
        warmup_epochs=1, skip_dropout=(0.0, 0.4, 0.7), max_skips=2, batch_size=16, crop_padding=1, flip="none",
    )  # fmt: skip
    quiet = Display(console=Console(quiet=True))
    found = search(config, load(config.data), RunFolder(tmp_path), quiet)
    assert found.normal.count("skip_connect") <= 2
    rows = RunFolder(tmp_path).metrics()
    assert [len(row["operations_normal"][0]) for row in rows] == [8, 8, 5, 5, 3, 3]
