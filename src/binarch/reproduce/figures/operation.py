"""A space's operation as a diagram, read from the module that is trained."""

import operator
from dataclasses import replace
from typing import Any, final

import torch
from torch import fx, nn

from binarch.nn import Binarization, ChannelShuffle, PReLU, QuantConv2d
from binarch.quantizers import Identity, Sign
from binarch.report import Diagram, Step
from binarch.spaces import build_space

_LAYERS = (nn.Conv2d, QuantConv2d, nn.BatchNorm2d, nn.ReLU, PReLU, ChannelShuffle)
_SUMS = (operator.add, operator.iadd, torch.add)


def operation_diagram(space: str, kind: str, *, channels: int, groups: int, stride: int = 1) -> Diagram:
    """What ``kind`` ("sep_conv" or "dil_conv") does in ``space``, with all bits that the space can do without.

    The operation is built with kernels of 3 x 3 and of 5 x 5 pixels: a kernel in which the two differ is called k x k.
    """
    binarization = Binarization("none" if space == "darts" else "both")
    built = build_space(space, binarization, groups)
    small, large = (diagram_of(built.primitive(f"{kind}_{k}x{k}", channels, stride)) for k in (3, 5))
    steps = [
        one if one == other else replace(one, kernel="k × k")
        for one, other in zip(small.steps, large.steps, strict=True)
    ]
    for step, other in zip(steps, large.steps, strict=True):
        if step != other and step != replace(other, kernel="k × k"):
            raise ValueError(f"{space}, {kind}: {step} and {other} differ in more than the kernel")
    return Diagram(tuple(steps))


def diagram_of(module: nn.Module) -> Diagram:
    """The layers of ``module`` and what feeds what, as torch.fx sees one call of it.

    Known layers and modules without children are boxes, all others are gone through. A quantized convolution is two
    boxes: what it does to its input, and the product. What else ``forward`` does is a box with its name.
    """
    network = nn.Sequential(module)  # so that a single layer is a call, too
    steps: list[Step] = []
    values: dict[fx.Node, int] = {}
    for node in _Tracer().trace(network).nodes:
        if node.op == "placeholder":
            values[node] = 0
        elif node.op not in ("get_attr", "output"):
            inputs = _inputs(node, values)
            for step in _steps(network, node):
                steps.append(replace(step, inputs=inputs))
                inputs = (len(steps),)
            values[node] = inputs[0]
    return Diagram(tuple(steps))


@final
class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LAYERS) or not any(True for _ in m.children())


def _inputs(node: fx.Node, values: dict[fx.Node, int]) -> tuple[int, ...]:
    """The values that a call takes, one that it takes twice twice."""
    found = []

    def look(argument: fx.Node) -> fx.Node:
        if argument in values:
            found.append(values[argument])
        return argument

    fx.node.map_arg((node.args, node.kwargs), look)
    return tuple(found)


def _steps(network: nn.Module, node: fx.Node) -> list[Step]:
    if node.op == "call_module":
        return _layer(network.get_submodule(str(node.target)))
    if node.target in _SUMS:
        return [Step("sum", "sum")]
    return [Step("other", getattr(node.target, "__name__", str(node.target)))]


def _layer(layer: nn.Module) -> list[Step]:
    match layer:
        case nn.Identity():
            return []
        case QuantConv2d():
            return [*_binarizer(layer.activation_quantizer), _convolution(layer, layer.weight_quantizer.bits)]
        case nn.Conv2d():
            return [_convolution(layer, 32)]
        case nn.BatchNorm2d():
            return [Step("norm", "BN")]
        case nn.ReLU() | PReLU() | nn.PReLU():
            return [Step("activation", type(layer).__name__)]
        case ChannelShuffle():
            return [Step("shuffle", "channel shuffle", details=(f"{layer.groups} groups",))]
        case _:
            return [Step("other", type(layer).__name__)]


def _binarizer(quantizer: nn.Module) -> list[Step]:
    if isinstance(quantizer, Identity):
        return []
    return [Step("one-bit", "sign") if isinstance(quantizer, Sign) else Step("other", type(quantizer).__name__)]


def _convolution(layer: Any, bits: int) -> Step:
    outputs, per_group, *kernel = layer.filter_shape if isinstance(layer, QuantConv2d) else layer.weight.shape
    depthwise = per_group == 1 and layer.groups == outputs > 1
    words = {1: "binary "}.get(bits, "" if bits == 32 else f"{bits}-bit ") + "depthwise " * depthwise
    details = [f"{layer.groups} groups"] if layer.groups > 1 and not depthwise else []
    sides = {name: _side(getattr(layer, name)) for name in ("dilation", "stride")}
    details += [f"{name} {side}" for name, side in sides.items() if side != "1"]
    return Step("one-bit" if bits == 1 else "conv", f"{words}conv", " × ".join(map(str, kernel)), tuple(details))


def _side(value: int | tuple[int, ...]) -> str:
    """One number where both sides agree."""
    sides = (value,) if isinstance(value, int) else value
    return " × ".join(map(str, dict.fromkeys(sides)))
