"""Compiled loops that are kept on disk name the code of other files that they hold."""

import hashlib
from pathlib import Path
from types import ModuleType

import pytest

from binarch.nn import halves, passes, tiles, winograd


@pytest.mark.parametrize("loops, inside", [(passes, halves), (winograd, tiles)], ids=["passes", "winograd"])
def test_loops_name_the_vector_code_that_they_hold(loops: ModuleType, inside: ModuleType) -> None:
    assert inside.__file__ is not None
    digest = hashlib.sha256(Path(inside.__file__).read_bytes()).hexdigest()[:16]
    assert digest == loops.VECTOR_CODE, f'set VECTOR_CODE = "{digest}" in {loops.__name__}, or old loops stay in use'
