from pathlib import Path

import pytest
from fake_run import write_demo


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo run: ``search`` (20 epochs, a seed inside) and ``train`` (30 epochs)."""
    return write_demo(tmp_path_factory.mktemp("runs") / "demo")
