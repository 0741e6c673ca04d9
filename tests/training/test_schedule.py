"""Learning rates over time: each kind's formula, and what cannot be read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binarch.errors import UserError
from binarch.training import TrainConfig
from binarch.training.schedule import Schedule, cosine

TEXTS = {
    "cosine": Schedule("cosine"),
    "linear": Schedule("linear"),
    "exponential:0.002": Schedule("exponential", 0.002),
    "exponential:1": Schedule("exponential", 1.0),
    "steps:0.1@0.5,0.75": Schedule("steps", 0.1, (0.5, 0.75)),
    "steps:0.2@0.3": Schedule("steps", 0.2, (0.3,)),
}


def test_cosine_as_darts_has_it() -> None:
    assert cosine(0.025, 0.001, 0) == pytest.approx(0.025)
    assert cosine(0.025, 0.001, 0.5) == pytest.approx(0.0130)
    assert cosine(0.025, 0.001, 49 / 50) == pytest.approx(0.001024, abs=1e-6)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read(text: str) -> None:
    assert Schedule.parse(text) == TEXTS[text]
    TrainConfig(schedule=text)


@pytest.mark.parametrize(
    "text",
    [
        "", "step", "Cosine", "cosine:0.1", "linear:0.1", "linear:0.1@0.5", "exponential", "exponential:",
        "exponential:x", "exponential:0", "exponential:-0.1", "exponential:1.5", "exponential:nan",
        "exponential:0.1@0.5", "steps", "steps:0.1", "steps:0.1@", "steps:@0.5", "steps:0.1@half", "steps:0.1@0.5,",
        "steps:0.1@0", "steps:0.1@1", "steps:0.1@0.5,1.5", "steps:0.1@nan", "steps:2@0.5",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_what_can(text: str) -> None:
    for read in (Schedule.parse, lambda text: TrainConfig(schedule=text)):
        with pytest.raises(UserError) as caught:
            read(text)
        message = str(caught.value)
        assert message.startswith(f"schedule: {text!r}")
        assert all(kind in message for kind in ("cosine", "linear", "exponential:", "steps:"))
        assert "\n" not in message


@pytest.mark.parametrize(
    "text, rates",
    [
        ("cosine", {0: 0.4, 1 / 3: 0.3, 0.5: 0.2, 2 / 3: 0.1, 1: 0.0}),
        ("linear", {0: 0.4, 0.25: 0.3, 0.5: 0.2, 1: 0.0}),
        ("exponential:0.01", {0: 0.4, 0.5: 0.04, 1: 0.004}),
        ("steps:0.1@0.5,0.75", {0: 0.4, 0.499: 0.4, 0.5: 0.04, 0.749: 0.04, 0.75: 0.004, 1: 0.004}),
        ("steps:0.5@0.8,0.2", {0.1: 0.4, 0.5: 0.2, 0.9: 0.1}),
    ],
)
def test_rates(text: str, rates: dict[float, float]) -> None:
    schedule = Schedule.parse(text)
    assert {at: schedule.at(0.4, at) for at in rates} == pytest.approx(rates)


def test_the_published_exponential_of_binary_connect() -> None:
    """3e-3 to 2e-6 in 500 epochs: times 0.98548 in each."""
    schedule = Schedule.parse(f"exponential:{2e-6 / 3e-3}")
    assert schedule.at(3e-3, 1 / 500) / 3e-3 == pytest.approx(0.98548, abs=1e-5)
    assert schedule.at(3e-3, 1) == pytest.approx(2e-6)


@given(st.sampled_from(sorted(TEXTS)), st.floats(1e-6, 10), st.floats(0, 1), st.floats(0, 1))
def test_a_rate_starts_as_given_and_never_rises(text: str, start: float, one: float, other: float) -> None:
    schedule = Schedule.parse(text)
    assert schedule.at(start, 0.0) == pytest.approx(start)
    early, late = sorted((one, other))
    assert 0 <= schedule.at(start, late) <= schedule.at(start, early) + 1e-12 * start
    assert math.isclose(schedule.at(2 * start, one), 2 * schedule.at(start, one), abs_tol=1e-12)
