import pytest

from binarch.report import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.24, "8.2 s"), (59.99, "1 min 0 s"), (200, "3 min 20 s"), (8040, "2 h 14 min"), (None, ""), ("x", "")],
)
def test_duration(seconds: object, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (3_421_000, "3.42 M"),
        (999_999, "1 M"),
        (98e9, "98 G"),
        (True, ""),
        (float("nan"), ""),
    ],
)
def test_count(value: object, text: str) -> None:
    assert words.count(value) == text


def test_percent_and_size() -> None:
    assert words.percent(0.9134) == "91.3 %"
    assert words.size(611_000) == "611 kB"
    assert words.size(12) == "12 B"


def test_plain() -> None:
    assert words.plain([1, 0.5, None, True]) == "1, 0.5, –, yes"
    assert words.plain(0.025) == "0.025"
    assert words.plain([]) == "–"
