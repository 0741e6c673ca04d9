"""What a run is told of the machine it computes on."""

import pytest
import torch

from binarch.training.device import Precision, warning


@pytest.mark.parametrize(
    ("capability", "precision", "device", "slow"),
    [
        ("AVX2", "bf16", "cpu", True),
        ("AVX512", "bf16", "cpu", False),
        ("AVX2", "auto", "cpu", False),
        ("AVX2", "32", "cpu", False),
        ("AVX2", "bf16", "cuda", False),
    ],
)
def test_bfloat16_without_instructions_for_it_is_told(
    capability: str, precision: Precision, device: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert (warning(precision, torch.device(device)) is not None) == slow
