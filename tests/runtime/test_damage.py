"""Damaged files of every kind: a clear error, or a network that runs; never a crash, a hang or another exception."""

import faulthandler
from random import Random

import numpy as np
import pytest
from damage import damaged, sealed, small_enough
from random_programs import every_layer, planes, some_images

from binarch.errors import UserError
from binarch.runtime import Network, Program, container, reference

SOUND = every_layer().encode()
#: Seconds after which a file counts as hanging.
PATIENCE = 60


def load_and_run(raw: bytes, seed: int) -> str:
    """``refused``, or ``ran``; a network that runs, its numbers being finite, must answer what the reference does."""
    try:
        program = Program.decode(raw, "x")
        network = Network(program)
    except UserError:
        return "refused"
    images = some_images(program, 1, seed)
    with np.errstate(all="ignore"):
        logits = network.run(images)
        assert logits.shape == (1, len(program.classes))
        if small_enough(program):
            values = reference.trace(program, planes(images))
            if all(np.isfinite(value).all() for value in values):
                np.testing.assert_array_equal(logits, values[-1].reshape(1, -1))
    return "ran"


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_damaged_files(count: int, capfd: pytest.CaptureFixture[str]) -> None:
    results = {"refused": 0, "ran": 0}
    with capfd.disabled():  # so that a traceback of a crash or a hang can be seen
        for seed in range(count):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            try:
                results[load_and_run(damaged(SOUND, Random(seed)), seed)] += 1
            except BaseException:
                print(f"\nseed {seed}")
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
    # Most must get past the hash, and many past all checks, or this test would test little.
    assert results["ran"] > 0.15 * count
    assert results["refused"] > 0.5 * count


def test_the_sound_file_runs() -> None:
    tensors, metadata = container.decode(SOUND, "x")
    again = sealed(metadata, tensors["reals"].tobytes(), tensors["bits"].tobytes())
    assert again == SOUND
    assert load_and_run(again, 0) == "ran"
