"""What is imported, and so how soon a first answer comes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEAVY = "torch lightning datasets sklearn matplotlib cattrs pyarrow safetensors"


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip


def test_importing_binarch_has_no_effect() -> None:
    code = f"import sys, binarch; print([n for n in '{HEAVY} numpy numba PIL tyro rich'.split() if n in sys.modules])"
    assert python(code).stdout == "[]\n"


def test_the_first_answer_needs_neither_torch_nor_a_compiler(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    code = f"""
import sys
from binarch.__main__ import main
main(sys.argv[1:])
from binarch.runtime.kernels import execute
print([name for name in "{HEAVY}".split() if name in sys.modules], execute.signatures)
"""
    arguments = ["predict", "digits", str(tmp_path / "photo.png"), "--top", "2"]
    done = python(code, *arguments, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    answer, imported = done.stdout.splitlines()
    assert answer.startswith(str(tmp_path / "photo.png"))
    assert answer.count("%") == 2
    assert imported == "[] []"
    assert "--compile" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    # Where the kernels are compiled they answer, and there is nothing to say.
    warm = python(code, *arguments)
    assert warm.stdout.splitlines()[0] == answer
