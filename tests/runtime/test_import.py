"""The runtime needs numpy and numba only."""

import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
from random_programs import random_graph, some_images

from binarch.runtime import Network

SCRIPT = """
import sys
import numpy as np
from binarch.runtime import load

network = load(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], network.run(images))
network.predict(images[0])
heavy = "torch torchvision safetensors datasets matplotlib lightning sklearn PIL tyro cattrs rich".split()
print([name for name in heavy if name in sys.modules])
"""


def test_running_a_file_imports_no_torch(tmp_path: Path) -> None:
    program = random_graph(Random(5))
    images = some_images(program, 2)
    program.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "images.npy", images)
    paths = [str(tmp_path / name) for name in ("model.safetensors", "images.npy", "logits.npy")]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *paths], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), Network(program).run(images))
