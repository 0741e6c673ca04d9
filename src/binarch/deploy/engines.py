"""Everything that a packed network is compared with: one class per engine, all fed the same program.

The peers get the float graph as a careful person would deploy it: scales and batch norms folded into the weights, a
sign as one comparison, the quicker memory format, fixed shapes, latency settings.
"""

import io
import logging
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch

from binarch.deploy.extras import extra
from binarch.deploy.floats import random_images
from binarch.deploy.onnx import onnx_session, to_onnx
from binarch.deploy.torch_graph import torch_graph
from binarch.runtime import Network
from binarch.runtime.program import Program

#: Float32 images (N, channels, height, width) in 0..1 to logits (N, classes).
Run = Callable[[np.ndarray], np.ndarray]
#: Images that int8 engines see to choose their ranges.
CALIBRATION = 8


class Engine(ABC):
    """A way to run networks."""

    name: ClassVar[str]

    @abstractmethod
    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Everything that is done once, compiling included; what is returned runs batches of ``batch`` images.

        A missing library is a :class:`~binarch.errors.UserError`; an engine that cannot do it raises what it likes.
        """


@final
class Binarch(Engine):
    """This project's runtime."""

    name = "binarch"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Plan and compile."""
        network = Network(program, threads)
        network.warmup()
        return lambda images: network.run(images.transpose(0, 2, 3, 1))


def _torch_runner(network: torch.nn.Module, layout: torch.memory_format) -> Run:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: torch.Tensor = network(torch.from_numpy(images).contiguous(memory_format=layout))
        return logits.numpy()

    return run


def _best_layout(program: Program, threads: int, batch: int) -> tuple[torch.nn.Module, torch.memory_format]:
    """The float graph in the memory format in which it is quicker here; sets torch's number of threads."""
    torch.set_num_threads(threads)
    images = random_images(program, batch)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = torch_graph(program).to(memory_format=layout)  # type: ignore[call-overload]
        run = _torch_runner(network, layout)
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            run(images)
            seconds.append(time.perf_counter() - started)
        found.append((min(seconds[1:]), network, layout))
    return min(found, key=lambda entry: entry[0])[1:]


@final
class Torch(Engine):
    """PyTorch, eager."""

    name = "torch"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Choose the memory format."""
        return _torch_runner(*_best_layout(program, threads, batch))


@final
class TorchCompile(Engine):
    """PyTorch's compiler with constants frozen."""

    name = "torch-compile"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Choose the memory format and compile; minutes for a large network."""
        network, layout = _best_layout(program, threads, batch)
        run = _torch_runner(torch.compile(network, options={"freezing": True}), layout)  # type: ignore[arg-type]
        run(random_images(program, batch))
        return run


def _session_runner(session: Any) -> Run:
    return lambda images: np.asarray(session.run(None, {"images": images})[0])


@final
class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider, float32."""

    name = "onnxruntime"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Optimise the exported graph."""
        return _session_runner(onnx_session(to_onnx(program, batch), threads))


@final
class OnnxRuntimeInt8(Engine):
    """ONNX Runtime after its static quantization (QDQ, filters one by one)."""

    name = "onnxruntime-int8"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Calibrate on noise, quantize, optimise."""
        tools = extra("onnxruntime.quantization")
        parts = np.split(random_images(program, CALIBRATION * batch, seed=1), CALIBRATION)

        class Noise(tools.CalibrationDataReader):  # type: ignore[name-defined]
            def __init__(self) -> None:
                self.feed: Iterator[dict[str, np.ndarray]] = iter({"images": part} for part in parts)

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self.feed, None)

        with tempfile.TemporaryDirectory() as folder, _quiet():
            source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            source.write_bytes(to_onnx(program, batch))
            tools.quantize_static(
                source, target, Noise(), quant_format=tools.QuantFormat.QDQ, per_channel=True,
                op_types_to_quantize=["Conv", "Gemm"],
            )  # fmt: skip
            return _session_runner(onnx_session(target.read_bytes(), threads))


def _openvino_runner(model: Any, threads: int) -> Run:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = extra("openvino").Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda images: np.array(request.infer({0: images}, share_inputs=True, share_outputs=True)[0])


def _openvino_model(program: Program, batch: int) -> Any:
    return extra("openvino").Core().read_model(to_onnx(program, batch))


@final
class OpenVino(Engine):
    """OpenVINO's CPU plugin, float32."""

    name = "openvino"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Compile the exported graph for latency, in one stream."""
        return _openvino_runner(_openvino_model(program, batch), threads)


@final
class OpenVinoInt8(Engine):
    """OpenVINO after NNCF's post-training quantization."""

    name = "openvino-int8"

    def prepare(self, program: Program, threads: int, batch: int) -> Run:
        """Calibrate on noise, quantize, compile."""
        extra("openvino")
        with _quiet():
            nncf = extra("nncf")
            parts = np.split(random_images(program, CALIBRATION * batch, seed=1), CALIBRATION)
            model = nncf.quantize(_openvino_model(program, batch), nncf.Dataset(parts), subset_size=CALIBRATION)
            return _openvino_runner(model, threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizers' bars and advice off the terminal, and NNCF from sending usage statistics unasked."""
    os.environ.setdefault("NNCF_CI", "1")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Binarch(), Torch(), TorchCompile(), OnnxRuntime(), OnnxRuntimeInt8(), OpenVino(), OpenVinoInt8()
    )
}  # fmt: skip
