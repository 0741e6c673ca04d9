"""The comparison: who takes part, what is counted, what is told."""

import io
import json
import sys
from typing import final

import numpy as np
import pytest
import torch
from float_programs import everything
from rich.console import Console

from binarch.deploy import ENGINES, Engine, bench, cold_start, random_program, tell, tell_cold
from binarch.deploy.bench import binary_macs
from binarch.deploy.engines import Run
from binarch.deploy.floats import weights_of
from binarch.deploy.limit import SUMS, WIDTHS, PopcountLimit, make_counter
from binarch.errors import UserError
from binarch.models import NetworkConfig
from binarch.runtime import Program

TINY = NetworkConfig(cells=3, channels=4, groups=2)


@final
class Broken(Engine):
    """An engine that does not know some layer."""

    name = "openvino"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Fail as libraries do."""
        raise RuntimeError("unknown layer: sign\nat line 1 of a long story")


def test_a_comparison_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(ENGINES, "openvino", Broken())
    program = random_program("pdarts", TINY, classes=3, image_size=8)
    before = torch.get_num_threads()
    found = bench(program, ["torch", "onnxruntime", "openvino"], batch=2, seconds=0)
    assert torch.get_num_threads() == before
    ours, theirs = found.results
    assert (ours.engine, theirs.engine) == ("binarch", "torch")
    for row in found.results:
        low, high = row.quartiles_ms
        assert 0 < row.min_ms <= low <= row.median_ms <= high
        assert row.ms_per_image == pytest.approx(row.median_ms / 2)
        assert row.times_binarch_range[0] <= row.times_binarch <= row.times_binarch_range[1]
        assert row.runs >= found.rounds >= 5
    assert ours.times_binarch == 1
    assert theirs.difference < 1e-3
    reasons = {entry["engine"]: entry["reason"] for entry in found.skipped}
    assert "pip install '.[bench]'" in reasons["onnxruntime"]
    assert reasons["openvino"] == "unknown layer: sign"
    assert found.binary_macs == program.card["costs"]["binary_macs"]
    assert found.binary_macs_per_s == pytest.approx(found.binary_macs / ours.ms_per_image * 1e3)
    assert found.share_of_limit == pytest.approx(found.binary_macs_per_s / found.popcount_limit)
    assert found.file_bytes == len(program.encode())
    assert found.machine["versions"]["torch"] == torch.__version__


def test_what_is_found_is_json_and_can_be_read() -> None:
    found = bench(everything(), ["torch"], seconds=0)
    plain = json.loads(json.dumps(found.to_dict()))
    assert {"engine", "median_ms"} <= set(plain["results"][0])
    paper = io.StringIO()
    Console(file=paper, width=80).print(tell(found), markup=False)
    text = paper.getvalue()
    for word in ("binarch", "torch", "1 thread", "MACs/s", "popcount", "as float32", found.machine["instruction_set"]):
        assert word in text


def test_mistakes_are_named_before_anything_runs() -> None:
    with pytest.raises(UserError, match="threads: 0"):
        bench(everything(), ["torch"], threads=0)
    with pytest.raises(UserError, match="batch: 0"):
        bench(everything(), ["torch"], batch=0)
    with pytest.raises(UserError, match="--against: 'larq' is unknown"):
        bench(everything(), ["larq"])


def test_work_and_weights_are_those_of_the_network() -> None:
    for arch, config, size in (("pdarts", TINY, 8), ("darts-v2", TINY, 16), ("vgg-small", NetworkConfig(), 8)):
        program = random_program(arch, config, classes=4, image_size=size)
        costs = program.card["costs"]
        assert binary_macs(program) == costs["binary_macs"] > 0
        # Thresholds take the place of batch norms, a scale that of each binary filter's mean.
        assert weights_of(program) == pytest.approx(costs["params"] + costs["output_scales"], rel=0.2)
        assert weights_of(program) > costs["binary_params"]
        assert program.classes == ["0", "1", "2", "3"]


def test_a_real_space_has_no_binary_work() -> None:
    program = random_program("darts-v1", NetworkConfig("darts", cells=3, channels=4), classes=2, image_size=8)
    assert binary_macs(program) == 0


def test_random_programs_are_mixed_and_repeatable() -> None:
    first, again, other = (random_program("pdarts", TINY, classes=3, image_size=8, seed=s) for s in (0, 0, 1))
    assert first.encode() == again.encode() != other.encode()
    ones = np.unpackbits(first.bits).mean()
    assert 0.3 < ones < 0.7


@pytest.mark.parametrize("lanes", WIDTHS)
def test_the_counter_counts(lanes: int) -> None:
    """In plain integers: bit for bit, so nothing was optimised away."""

    def words(seed: int) -> list[int]:
        return [(seed * 2 + 1) * 0x9E3779B97F4A7C15 * (2 * lane + 1) % 2**64 for lane in range(lanes)]

    total, weights = 0, words(0)
    for _ in range(5):
        for k in range(SUMS):
            total += sum((x ^ w).bit_count() for x, w in zip(words(k + 1), weights, strict=True))
        weights = [(w + step) % 2**64 for w, step in zip(weights, words(SUMS + 1), strict=True)]
    assert make_counter(lanes)(5) == total


def test_the_limit_is_measured_for_each_width() -> None:
    for threads in (1, 2):
        rates = PopcountLimit(threads).measure(words=1 << 14)
        assert set(rates) == set(WIDTHS)
        assert all(rate > 0 for rate in rates.values())


@pytest.mark.slow  # compiles the kernels anew
def test_a_cold_start_is_timed() -> None:
    cold = cold_start(everything())
    assert cold.first_run_empty_cache_s > cold.first_run_s > cold.second_run_s > 0
    assert "cold start" in tell_cold(cold)
