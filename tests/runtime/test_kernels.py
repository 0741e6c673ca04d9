"""The kernels' source."""

import hashlib
from pathlib import Path

from binarch.runtime import barrier, kernels, lookup


def test_the_kernels_name_the_vector_code_that_they_hold() -> None:
    code = b"".join(Path(module.__file__).read_bytes() for module in (lookup, barrier))
    digest = hashlib.sha256(code).hexdigest()[:16]
    assert digest == kernels.VECTOR_CODE, f'set VECTOR_CODE = "{digest}" in kernels.py, or old kernels stay in use'
