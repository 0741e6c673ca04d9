import zlib
from pathlib import Path

import matplotlib
import pytest
from fake_run import random_genotype
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.transforms import Bbox

from binarch.errors import UserError
from binarch.report import Panel, draw_cell, draw_genotype, draw_panels, save_drawing
from binarch.report.draw import draw_thumbnail
from binarch.report.primitive import label_of, wrapped
from binarch.spaces.genotype import Genotype
from binarch.spaces.published import PUBLISHED, published


def text_frames(figure: Figure) -> dict[str, list[Bbox]]:
    """Where the renderer puts every line of text, in pixels."""
    canvas = FigureCanvasAgg(figure)
    frames: dict[str, list[Bbox]] = {}
    for text in figure.axes[0].texts:
        frames.setdefault(text.get_text(), []).append(text.get_window_extent(canvas.get_renderer()))
    return frames


def check_readable(genotype: Genotype, space: str) -> None:
    figure = draw_genotype(genotype, space, "A title")
    frames = text_frames(figure)
    for primitive in {edge.primitive for edge in genotype.normal.edges + genotype.reduce.edges}:
        both = genotype.normal.edges + genotype.reduce.edges
        assert len(frames[label_of(primitive, space)]) == sum(edge.primitive == primitive for edge in both)
    check_free(figure, genotype)


def check_free(figure: Figure, genotype: Genotype) -> None:
    """Nothing is clipped or covered, and every edge has its arrow."""
    texts = [frame for same in text_frames(figure).values() for frame in same]
    patches = figure.axes[0].patches
    heads = [patch.get_window_extent() for patch in patches if isinstance(patch, Polygon)]
    pills = [patch.get_window_extent() for patch in patches if isinstance(patch, FancyBboxPatch)]
    assert len(heads) == len(genotype.normal.edges + genotype.reduce.edges) + sum(
        len(cell.concat) for cell in (genotype.normal, genotype.reduce)
    )
    canvas = figure.bbox
    for index, text in enumerate(texts):
        assert canvas.x0 <= text.x0 < text.x1 <= canvas.x1
        assert canvas.y0 <= text.y0 < text.y1 <= canvas.y1
        assert not any(text.overlaps(other) for other in texts[index + 1 :])
        assert not any(text.overlaps(head) for head in heads)
        # A label lies in its own pill and touches no other shape.
        touched = [pill for pill in pills if text.overlaps(pill)]
        assert len(touched) <= 1
        assert all(pill.x0 < text.x0 and text.x1 < pill.x1 for pill in touched)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("space", ["bats", "darts", "nasnet"])
def test_published_genotypes_are_readable(name: str, space: str) -> None:
    check_readable(published(name), space)


@pytest.mark.parametrize("seed", range(30))
def test_random_genotypes_are_readable(seed: int) -> None:
    check_readable(random_genotype(seed, nodes=4 + seed % 2), "bats")


@pytest.mark.parametrize("genotype", [published("bats-16px"), random_genotype(3)])
def test_compact_panels_are_readable(genotype: Genotype) -> None:
    panels = Panel("(a) Normal cell, binary", genotype.normal, "bats"), Panel("(b) x", genotype.reduce, "darts")
    figure = draw_panels([panels], compact=True)
    check_free(figure, genotype)
    labels = {wrapped(label_of(edge.primitive, "bats")) for edge in genotype.normal.edges}
    assert labels <= set(text_frames(figure))
    wide = draw_panels([panels])
    assert figure.get_size_inches()[0] < 0.85 * wide.get_size_inches()[0]


def test_bats_names_do_not_lie() -> None:
    texts = text_frames(draw_genotype(published("darts-v2"), "bats"))
    assert {"grouped conv 3x3", "dil. grouped conv 3x3"} <= set(texts)
    assert not any("sep" in text for text in texts)


def test_draw_cell_tells_title_and_statistics() -> None:
    texts = text_frames(draw_cell(published("darts-v2").normal, "$ <Normal> $", "darts"))
    assert "$ <Normal> $" in texts
    (line,) = (text for text in texts if text.startswith("depth"))
    assert [part.strip() for part in line.split("·")] == ["depth 2", "5 conv 3x3", "1 dilated", "2 skip"]


def test_thumbnails_have_no_words() -> None:
    figure = draw_thumbnail(published("darts-v2"))
    assert not figure.axes[0].texts
    assert figure.get_size_inches()[0] < 3


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG\r\n\x1a\n"), ("pdf", b"%PDF-")])
def test_save_writes_the_same_bytes_every_time(tmp_path: Path, suffix: str, magic: bytes) -> None:
    one, other = tmp_path / f"one.{suffix}", tmp_path / f"deep/other.{suffix.upper()}"
    save_drawing(published("nasnet"), one, "darts", "NASNet")
    save_drawing(published("nasnet"), other, "darts", "NASNet")
    assert one.read_bytes().startswith(magic)
    assert zlib.crc32(one.read_bytes()) == zlib.crc32(other.read_bytes())
    assert b"Date" not in one.read_bytes()
    assert [path.name for path in tmp_path.glob("*") if path.is_file()] == [one.name]


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.svg, \.png, \.pdf"):
        save_drawing(published("nasnet"), tmp_path / "cell.gif")
    assert not list(tmp_path.iterdir())


def test_no_global_setting_is_changed(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save_drawing(published("darts-v1"), tmp_path / "cell.svg")
    assert dict(matplotlib.rcParams) == before
