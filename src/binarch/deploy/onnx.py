"""A packed program as an ONNX model: the float graph with +-1 weights, for engines that know no bits."""

import json
from typing import Any, final

import numpy as np

from binarch.deploy.extras import extra
from binarch.deploy.floats import Borders, Floats, borders, random_images
from binarch.errors import UserError
from binarch.runtime import Network
from binarch.runtime.ops import (
    LARGEST_REAL,
    Add,
    Affine,
    BitConv,
    Clip,
    Concat,
    Conv,
    Flatten,
    Image,
    Mean,
    Op,
    Pool,
    PRelu,
    Quantize,
    Shuffle,
    Zeros,
)  # fmt: skip
from binarch.runtime.program import Program

#: Of the operators and of the file: old enough for engines of 2022.
OPSET, IR_VERSION = 17, 9


def to_onnx(program: Program, batch: int | None = None) -> bytes:
    """The file of an ONNX model, checked: ``images`` to ``logits``.

    ``images``: float32 (N, channels, height, width) in 0..1; ``logits``: float32 (N, classes).
    ``batch``: N, if it is to be fixed. ``classes`` and ``card`` lie in the metadata as JSON.
    """
    model = _Writer(program, batch).model
    extra("onnx").checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def check_onnx(model: bytes, program: Program, count: int = 16) -> dict[str, Any]:
    """Run both on ``count`` images of noise: how many get the same first class, and the largest difference of logits,
    relative to the largest logit. Without ONNX Runtime nothing is compared, and the result says why."""
    images = random_images(program, count)
    try:
        session = onnx_session(model, threads=1)
    except UserError as error:
        return {"checked": f"no: {error}"}
    theirs = session.run(None, {"images": images})[0]
    ours = Network(program).run(images.transpose(0, 2, 3, 1))
    return {
        "checked": f"{count} images of noise, against ONNX Runtime",
        "same_class": int((theirs.argmax(1) == ours.argmax(1)).sum()),
        "largest_difference": relative_difference(theirs, ours),
    }


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """max |a - b| / max |b|."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))


def onnx_session(model: bytes, threads: int) -> Any:
    """An ONNX Runtime session on the CPU."""
    runtime = extra("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that spin after a run would slow down whatever runs next in the same process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@final
class _Writer:
    """Writes the graph, instruction by instruction; a value is the name of a tensor (N, channels, height, width)."""

    def __init__(self, program: Program, batch: int | None) -> None:
        self.program = program
        self.floats = Floats(program)
        self.onnx = extra("onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.values: list[str] = []
        self._quantized: dict[tuple[int, tuple[int, ...]], str] = {}
        for index, op in enumerate(program.ops):
            self.values.append(self._value(index, op))
        self.nodes.append(self.onnx.helper.make_node("Flatten", [self.values[-1]], ["logits"], axis=1))
        self.model = self._model("N" if batch is None else batch)

    def _model(self, batch: str | int) -> Any:
        helper, image, classes = self.onnx.helper, self.program.image, self.program.classes
        kind = self.onnx.TensorProto.FLOAT
        images = [batch, image.channels, image.height, image.width]
        graph = helper.make_graph(
            self.nodes,
            "binarch",
            [helper.make_tensor_value_info("images", kind, images)],
            [helper.make_tensor_value_info("logits", kind, [batch, len(classes)])],
            self.constants,
        )
        model = helper.make_model(
            graph, producer_name="binarch", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        helper.set_model_props(model, {"classes": json.dumps(classes), "card": json.dumps(dict(self.program.card))})
        return model

    def _constant(self, array: np.ndarray | list[int]) -> str:
        """A stored tensor: float32, or int64 from a list."""
        values = np.array(array, np.int64) if isinstance(array, list) else np.array(array, np.float32)
        self.constants.append(self.onnx.numpy_helper.from_array(values, f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _per_channel(self, offset: int, count: int) -> str:
        return self._constant(self.floats.per_channel(offset, count))

    def _value(self, index: int, op: Op) -> str:
        """The tensor of one instruction; of a comparison, what is compared: its readers write the rest."""
        shape = self.program.shapes[index]
        match op:
            case Image():
                mean, std = (self._per_channel(at, op.channels) for at in (op.mean, op.std))
                return self._node("Div", self._node("Sub", "images", mean), std)
            case Quantize():
                return self.values[op.x]
            case Conv():
                return self._convolution(index, op, self.values[op.x])
            case BitConv():
                return self._convolution(index, op, self._comparison(op))
            case Affine() if index in self.floats.folded:
                return self.values[op.x]
            case Affine():
                scale, shift = (self._per_channel(at, shape.channels) for at in (op.scale, op.shift))
                return self._node("Add", self._node("Mul", self.values[op.x], scale), shift)
            case PRelu():
                slope = self.floats.numbers(op.slope, shape.channels).reshape(-1, 1, 1)
                return self._node("PRelu", self.values[op.x], self._constant(slope))
            case Clip():
                if (op.low, op.high) == (0, LARGEST_REAL):
                    return self._node("Relu", self.values[op.x])
                low, high = (self._constant(np.array(limit)) for limit in (op.low, op.high))
                return self._node("Clip", self.values[op.x], low, high)
            case Shuffle():
                return self._shuffle(op, *shape.dims)
            case Add():
                return self._node("Add", self.values[op.x], self.values[op.y])
            case Concat():
                return self._node("Concat", *(self.values[x] for x in op.xs), axis=1)
            case Pool():
                return self._pool(index, op)
            case Mean():
                return self._node("GlobalAveragePool", self.values[op.x])
            case Flatten():
                return self._node("Reshape", self.values[op.x], self._constant([0, shape.channels, 1, 1]))
            case Zeros():
                return self._zeros(*shape.dims)
        raise NotImplementedError(op.name)

    def _shuffle(self, op: Shuffle, channels: int, height: int, width: int) -> str:
        split = self._constant([0, op.groups, channels // op.groups, height, width])
        turned = self._node("Transpose", self._node("Reshape", self.values[op.x], split), perm=[0, 2, 1, 3, 4])
        return self._node("Reshape", turned, self._constant([0, channels, height, width]))

    def _zeros(self, channels: int, height: int, width: int) -> str:
        count = self._node("Gather", self._node("Shape", "images"), self._constant([0]))
        shape = self._node("Concat", count, self._constant([channels, height, width]), axis=0)
        return self._node("ConstantOfShape", shape)

    def _convolution(self, index: int, op: Conv | BitConv, x: str) -> str:
        weight, bias = self.floats.convolution(index)
        plain = [self._constant(bias)] if bias is not None else []
        window, size = op.window, self.program.inputs(index)[0].dims[1:]
        if size == window.kernel == window.size == (1, 1) and op.groups == 1 and window.origin == (0, 0):
            flat = self._node("Flatten", x, axis=1)
            linear = self._node("Gemm", flat, self._constant(weight[:, :, 0, 0]), *plain, transB=1)
            return self._node("Reshape", linear, self._constant([0, op.out, 1, 1]))
        x, pads = self._cut(x, borders(window, size), size)
        return self._node(
            "Conv", x, self._constant(weight), *plain, kernel_shape=window.kernel, strides=window.stride,
            dilations=window.dilation, group=op.groups, pads=pads,
        )  # fmt: skip

    def _cut(self, x: str, padding: Borders, size: tuple[int, ...]) -> tuple[str, list[int]]:
        """``x`` without the rows and columns that ``padding`` cuts off, and the padding that is left to the layer."""
        (top, bottom), (left, right) = padding
        if min(top, bottom, left, right) < 0:
            starts = [max(0, -top), max(0, -left)]
            stops = [size[0] - max(0, -bottom), size[1] - max(0, -right)]
            x = self._node("Slice", x, *map(self._constant, (starts, stops, [2, 3])))
        return x, [max(0, n) for n in (top, left, bottom, right)]

    def _comparison(self, op: BitConv) -> str:
        """What the codes of a quantizer stand for; written once for all readers that agree on it."""
        key = (op.x, op.values)
        if key not in self._quantized:
            thresholds, values = self.floats.comparison(op.x, op.values)
            y = self._choice(values[0])
            for threshold, value in zip(thresholds, values[1:], strict=True):
                limit = self._constant(threshold.reshape(1, -1, 1, 1))
                passed = self._node("GreaterOrEqual", self.values[op.x], limit)
                y = self._node("Where", passed, self._choice(value), y)
            self._quantized[key] = y
        return self._quantized[key]

    def _choice(self, values: np.ndarray) -> str:
        """One number where all channels agree, which is the rule; else one per channel."""
        return self._constant(values[0] if (values == values[0]).all() else values.reshape(1, -1, 1, 1))

    def _pool(self, index: int, op: Pool) -> str:
        window, size = op.window, self.program.inputs(index)[0].dims[1:]
        x, pads = self._cut(self.values[op.x], borders(window, size), size)
        shape: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.stride, "pads": pads}
        if op.kind == "max":
            return self._node("MaxPool", x, **shape)
        return self._node("AveragePool", x, count_include_pad=int(op.kind == "mean_padded"), **shape)
