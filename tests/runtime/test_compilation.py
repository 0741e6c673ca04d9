"""Is it known whether the kernels are compiled? And who answers meanwhile?"""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from random_programs import random_graph, some_images

from binarch.runtime import Network

SCRIPT = """
import sys
import numpy as np
from binarch.runtime import load
from binarch.runtime.kernels import execute
from binarch.runtime.network import FEW

network = load(sys.argv[1])
images = np.load(sys.argv[2])
print(network.compiled, len(execute.signatures))
print(network.predict(images[:3], top=99) == eval(sys.argv[3]), len(execute.signatures))
network.predict(np.repeat(images[:1], FEW - 2, axis=0))
print(len(execute.signatures))
"""


@pytest.mark.parametrize("cache", ["empty", "kept"])
def test_an_empty_cache_is_seen_and_few_images_do_not_fill_it(cache: str, tmp_path: Path) -> None:
    program = random_graph(Random(5))
    images = some_images(program, 3)
    network = Network(program)
    network.warmup()
    assert network.compiled
    program.save(tmp_path / "net.safetensors")
    np.save(tmp_path / "images.npy", images)
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": str(tmp_path / "cache")} if cache == "empty" else {})}
    expected = repr(network.predict(images, top=99))
    arguments = [str(tmp_path / "net.safetensors"), str(tmp_path / "images.npy"), expected]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == (
        ["False", "0", "True", "0", "1"] if cache == "empty" else ["True", "0", "True", "1", "1"]
    )


def test_what_takes_long_is_said_only_if_it_does() -> None:
    network = Network(random_graph(Random(7)))
    network.warmup()
    said: list[str] = []
    network.warmup(said.append)
    assert said == []
