"""The fast kernels as other processors would run them: AVX2, SSSE3, and plain x86-64."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite.binding import get_host_cpu_features

FEATURES = {
    "avx2": ("haswell", "sse3 ssse3 sse4.1 sse4.2 popcnt avx avx2 bmi bmi2 fma f16c lzcnt movbe"),
    "ssse3": ("generic", "sse3 ssse3"),
    "portable": ("generic", ""),
}
SCRIPT = """
import sys
import pytest
from binarch.runtime.lookup import instruction_set

if instruction_set() != sys.argv[1]:
    sys.exit(f"{instruction_set()}, not {sys.argv[1]}")
sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[2:]]))
"""

pytestmark = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="not an x86-64 machine")


def run_tests(processor: str, *selection: str) -> None:
    """Run the tests in a fresh process, whose kernels are compiled for ``processor``."""
    name, features = FEATURES[processor]
    if not all(get_host_cpu_features().get(feature, False) for feature in features.split()):
        pytest.skip(f"this machine cannot run code for {name}")
    environment = {
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in features.split()),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, processor, *selection],
        env=os.environ | environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_plain_x86_64_in_short() -> None:
    run_tests("portable", "tests/runtime/test_fast.py::test_many")


@pytest.mark.slow
@pytest.mark.parametrize("processor", FEATURES)
def test_all_on(processor: str) -> None:
    run_tests(processor, "tests/runtime/test_fast.py", "tests/runtime/test_network.py")
