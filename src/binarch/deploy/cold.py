"""How long a packed network takes to answer for the first time, in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from binarch.runtime.program import Program

_SCRIPT = """
import json, sys, time
times = [time.perf_counter()]
import numpy
from binarch.runtime import load
times.append(time.perf_counter())
network = load(sys.argv[1])
times.append(time.perf_counter())
for _ in range(2):
    network.run(numpy.zeros(network.size, numpy.uint8))
    times.append(time.perf_counter())
print(json.dumps([later - earlier for earlier, later in zip(times, times[1:])]))
"""


@final
@dataclass(frozen=True)
class ColdStart:
    """Seconds from a fresh process to its first answers."""

    import_s: float
    """``import binarch.runtime``, with numpy and Numba."""
    load_s: float
    """Read, check and plan the file."""
    first_run_empty_cache_s: float
    """The first image where Numba has compiled nothing yet: once per machine."""
    first_run_s: float
    """The first image of any later process."""
    second_run_s: float
    """The next image."""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)


def cold_start(program: Program) -> ColdStart:
    """Start two processes one after the other that share a cache which is empty at first."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.safetensors")
        program.save(file)
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(Path(folder, "cache"))}
        empty, kept = (_run(file, environment) for _ in range(2))
    return ColdStart(kept[0], kept[1], empty[2], kept[2], kept[3])


def _run(file: Path, environment: dict[str, str]) -> list[float]:
    command = [sys.executable, "-c", _SCRIPT, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [float(seconds) for seconds in json.loads(done.stdout)]
