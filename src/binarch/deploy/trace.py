"""Modules of classes that nobody has taught the packer: what they compute, as torch.fx sees it.

torch.fx calls ``forward`` once with a stand-in for the input and writes down what is done to it. Known layers stay
whole, all other modules are gone through; the resulting list of calls is lowered one by one.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, fx, nn

from binarch.deploy.builder import Builder
from binarch.deploy.operations import OPERATIONS, Lower, Map, Operations
from binarch.errors import UserError

ADVICE = (
    "build it from layers that can (the list is in binarch/deploy/lower.py), or teach it with @binarch.deploy.register"
)


def lower_traced(
    module: nn.Module, builder: Builder, x: int, *, lower: Lower, leaf: Callable[[nn.Module], bool]
) -> int:
    """Append what ``module`` computes from value ``x``; return the value of its output.

    ``lower`` appends the layers for which ``leaf`` holds. A :class:`UserError` names the class and what stands in the
    way: a ``forward`` that torch.fx cannot trace, or an operation that a program has no instructions for.
    """
    return _Walk(module, Operations(builder, lower)).run(_traced(module, leaf), x)


def _traced(module: nn.Module, leaf: Callable[[nn.Module], bool]) -> fx.Graph:
    parameters = list(inspect.signature(module.forward).parameters.values())
    options = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    try:
        return _Tracer(leaf).trace(module, options)
    except Exception as error:  # a forward may raise anything when it meets a stand-in
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{_name(type(module))}: cannot be packed ({reason}); {ADVICE}") from error


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@final
class _Proxy(fx.Proxy):
    """A stand-in that keeps ``x += y`` apart from ``x = x + y``."""

    def __iadd__(self, other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


@final
class _Tracer(fx.Tracer):
    """Stops at leaves, and keeps tensors that are no maps out of the traced module's attributes."""

    def __init__(self, leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self._leaf = leaf

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._leaf(m)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        return self.create_node("get_attr", "tensor", (), {}) if isinstance(a, Tensor) else super().create_arg(a)


@final
class _Walk:
    """Lowers the calls of a graph in their order."""

    def __init__(self, root: nn.Module, operations: Operations) -> None:
        self.root = root
        self.operations = operations
        self.values: dict[fx.Node, Any] = {}  # a map, a number, a shape; None for a tensor

    def run(self, graph: fx.Graph, x: int) -> int:
        """The value of the graph's output for input ``x``."""
        needed = self._needed(graph)
        if sum(node.op == "placeholder" for node in needed) != 1:
            raise UserError(f"{_name(type(self.root))}: cannot be packed; its forward must take one map and use it")
        for node in needed:
            self.values[node] = Map(x) if node.op == "placeholder" else self._value(node)
        answer = self.values[needed[-1]]
        if not isinstance(answer, Map):
            raise UserError(f"{_name(type(self.root))}: cannot be packed; its forward must return one map")
        return answer.index

    def _needed(self, graph: fx.Graph) -> list[fx.Node]:
        """The nodes that the output depends on, in order; those that change such a node in place are among them."""
        needed: set[fx.Node] = set()
        for node in reversed(graph.nodes):
            changes = self._in_place(node) and node.args and node.args[0] in needed
            if node.op == "output" or node in needed or changes:
                needed.update((node, *node.all_input_nodes))
        return [node for node in graph.nodes if node in needed]

    def _in_place(self, node: fx.Node) -> bool:
        match node.op:
            case "call_module":
                return bool(getattr(self.root.get_submodule(str(node.target)), "inplace", False))
            case "call_function" | "call_method":
                ends = node.target is operator.iadd or _called(node).endswith("_")
                return ends or bool(node.kwargs.get("inplace", False))
        return False

    def _value(self, node: fx.Node) -> object:
        """What a node yields: a map, a number or a shape; None for a tensor of the module's own."""
        result: object
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        match node.op:
            case "output":
                return args[0]
            case "call_module":
                result = self._layer(node, [*args, *kwargs.values()])
            case "call_function" | "call_method":
                result = self._operation(node, args, kwargs)
            case _:
                return None
        if isinstance(result, Map) and args and isinstance(args[0], Map) and self._in_place(node):
            args[0].index = result.index
            return args[0]
        return result

    def _layer(self, node: fx.Node, args: list[object]) -> Map:
        layer = self.root.get_submodule(str(node.target))
        if len(args) != 1 or not isinstance(args[0], Map):
            raise UserError(f"{_name(type(layer))}: cannot be packed here; it must be called with one map")
        result = self.operations.layer(layer, args[0])
        return args[0] if result.index == args[0].index else result  # nn.Identity returns the tensor itself

    def _operation(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        where = f"{_name(self._owner(node))}: {_called(node)}"
        maps = any(isinstance(self.values[at], Map) for at in node.all_input_nodes)
        if not maps and getattr(node.target, "__module__", "") == "_operator":  # numbers of a shape: x.shape[1] // 2
            try:
                return node.target(*args, **kwargs)  # type: ignore[operator]
            except (TypeError, ArithmeticError, LookupError) as error:
                raise UserError(f"{where} cannot be packed ({error}); {ADVICE}") from error
        method = OPERATIONS.get(node.target)
        if method is None:
            raise UserError(f"{where} cannot be packed; {ADVICE}")
        try:
            bound = inspect.signature(method).bind(self.operations, *args, **kwargs)
        except TypeError as error:
            raise UserError(f"{where} cannot be packed ({error}); {ADVICE}") from error
        try:
            return method(*bound.args, **bound.kwargs)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    def _owner(self, node: fx.Node) -> type:
        """The class whose forward makes the call."""
        stack = node.meta.get("nn_module_stack")
        return list(stack.values())[-1][1] if stack else type(self.root)


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
