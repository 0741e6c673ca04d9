from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from binarch.report import Caption, Diagram, Step, draw_diagrams

CHAIN = Diagram(
    (
        Step("norm", "BN"),
        Step("one-bit", "binary conv", "k × k", ("12 groups", "dilation 2"), inputs=(1,)),
        Step("sum", "sum", inputs=(2, 0)),
    )
)
NESTED = Diagram(
    (
        Step("conv", "a conv with a long name", "3 × 3"),
        Step("activation", "ReLU", inputs=(1,)),
        Step("sum", "sum", inputs=(2, 1)),
        Step("other", "tanh", inputs=(0,)),  # not fed by the box above it
        Step("sum", "sum", inputs=(4, 3)),
    )
)


def test_titles_and_shortcuts() -> None:
    assert [step.title for step in CHAIN.steps] == ["BN", "binary conv k × k", "sum"]
    assert CHAIN.shortcuts == ((0, 3),)
    assert NESTED.shortcuts == ((1, 3), (3, 5), (0, 4))
    assert Diagram((Step("sum", "sum", inputs=(0, 0)),)).shortcuts == ((0, 1),), "x + x"


@pytest.mark.parametrize("diagrams", [[CHAIN], [CHAIN, NESTED, CHAIN]])
def test_diagrams_are_readable(diagrams: list[Diagram]) -> None:
    figure = draw_diagrams([(Caption(f"({k}) $ title", "a note"), one) for k, one in enumerate(diagrams)])
    canvas = FigureCanvasAgg(figure)
    axes = figure.axes[0]
    texts = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    steps = [step for one in diagrams for step in one.steps]
    assert len(circles) == sum(step.kind == "sum" for step in steps)
    assert len(boxes) == len(steps) - len(circles)
    arrows = sum(len(step.inputs) for step in steps) + len(diagrams)  # and one out of each
    assert sum(isinstance(patch, Polygon) for patch in axes.patches) == arrows
    for frame in (*texts, *boxes):
        assert figure.bbox.x0 <= frame.x0 < frame.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= frame.y0 < frame.y1 <= figure.bbox.y1
    assert not any(one.overlaps(other) for one, other in combinations(texts, 2))
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for text in texts:
        touched = [box for box in boxes if text.overlaps(box)]
        assert len(touched) <= 1
        assert all(box.x0 < text.x0 and text.x1 < box.x1 for box in touched)
