"""From any float network to a method's network, in place."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard, final

from torch import Tensor, nn

from binarch.errors import UserError, choose
from binarch.nn.exact_conv import ExactConv2d
from binarch.nn.norms import BatchNorm
from binarch.nn.quant_conv import QuantConv2d
from binarch.nn.quant_layer import QuantLayer, Shape2d
from binarch.nn.quant_linear import QuantLinear
from binarch.nn.scheme import Scheme
from binarch.nn.schemes import find_scheme
from binarch.quantizers import Identity

#: ``inner``: all but the first and the last layer; ``all``; or a function of a layer's name and the layer.
Where = Literal["inner", "all"] | Callable[[str, nn.Module], bool]


@final
@dataclass(frozen=True)
class Changes:
    """What :func:`binarize_` did, as names of modules."""

    binarized: tuple[str, ...]
    kept_real: tuple[str, ...]
    nonlinearities: tuple[str, ...]
    norms: tuple[str, ...]


def binarize_(
    model: nn.Module, scheme: Scheme | str, *, where: Where | None = None, leave: Collection[str] = ()
) -> Changes:
    """Make ``model`` the network of ``scheme``; return what changed.

    Convolutions and linear layers that ``where`` names (default: those that the scheme's paper binarizes) get the
    scheme's quantizers and keep their weights as latent ones; convolutions that stay real compute exactly in
    evaluation (:class:`ExactConv2d`). ReLU *modules* and batch norms change as the scheme wants it: a sign behind a
    ReLU would always be +1. A ReLU called as a function cannot be seen: write it as a module. Layers are taken in the
    order in which the modules stand, and the first of them is the one that sees real pixels; define them in the order
    in which they run. With a function, only the ReLUs and norms change whose next layer, in that order, is binarized.
    Layers inside of PyTorch's attention and transformer modules are left alone: those read the weights past the
    layers. So is everything inside of the modules that ``leave`` names, such as an auxiliary head.

    To train it, give ``parameter_groups`` to the optimizer and call ``settle`` after each step.

    Everything is checked before anything changes. Errors: nothing to binarize, channels or kernels that do not fit.
    """
    scheme = find_scheme(scheme) if isinstance(scheme, str) else scheme
    hidden = _read_by_parents(model)
    left = {part for name in leave for part in model.get_submodule(name).modules()}
    seen = {name: module for name, module in model.named_modules() if module not in left}
    layers = {
        name: module for name, module in seen.items() if name and module not in hidden and _is_float_layer(module)
    }
    _refuse_shared(layers)
    order = [name for name, module in seen.items() if name in layers or isinstance(module, QuantLayer)]
    chosen = _choose(layers, order, scheme, scheme.where if where is None else where)
    first = order[0]
    new = {name: _quantized(name, layer, scheme, real_input=name == first) for name, layer in chosen.items()}
    exact = {name: _exact(layer) for name, layer in layers.items() if name not in chosen and _is_plain_conv(layer)}
    changed = _before(seen, set(chosen)) if callable(where) else _all_but_the_last_norm(seen)
    relus, norms = _nonlinearities(seen, changed, scheme), _norms(seen, changed, scheme)
    in_place_of = {model.get_submodule(name): module for name, module in (new | exact | relus | norms).items()}
    for name, old in list(model.named_modules(remove_duplicate=False)):  # a module may stand in several places
        if old in in_place_of:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, in_place_of[old].train(old.training))
    for layer in new.values():
        layer.settle()
    real = tuple(name for name in layers if name not in new)
    return Changes(tuple(new), real, tuple(relus), tuple(norms))


def _is_float_layer(module: nn.Module) -> bool:
    if isinstance(module, QuantConv2d):
        return isinstance(module.weight_quantizer, Identity) and isinstance(module.activation_quantizer, Identity)
    known = (nn.Conv2d.forward, nn.Linear.forward, ExactConv2d.forward)  # not what computes something else
    return isinstance(module, nn.Conv2d | nn.Linear) and type(module).forward in known


def _read_by_parents(model: nn.Module) -> set[nn.Module]:
    """Linear layers whose weights are read past their forward."""
    readers = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    return {part for module in model.modules() if isinstance(module, readers) for part in module.modules()}


def _before(modules: Mapping[str, nn.Module], chosen: set[str]) -> set[str]:
    """Names of modules whose next layer, in the order in which the modules stand, is a chosen one."""
    found, waiting = set(), []
    for name, module in modules.items():
        waiting.append(name)
        if isinstance(module, nn.Conv2d | nn.Linear | QuantLayer):
            found |= set(waiting) if name in chosen else set()
            waiting = []
    return found


def _all_but_the_last_norm(modules: Mapping[str, nn.Module]) -> set[str]:
    norms = [name for name, module in modules.items() if _is_norm(module)]
    return set(modules) - set(norms[-1:])


def _is_norm(module: nn.Module) -> TypeGuard[BatchNorm]:
    return type(module) in (nn.BatchNorm2d, nn.BatchNorm1d)


def _nonlinearities(modules: Mapping[str, nn.Module], changed: set[str], scheme: Scheme) -> dict[str, nn.Module]:
    """What the scheme puts in the place of ReLUs."""
    if scheme.nonlinearity == "keep":
        return {}
    make = nn.Hardtanh if scheme.nonlinearity == "hardtanh" else nn.Identity
    relus = (nn.ReLU, nn.ReLU6)
    return {name: make() for name, module in modules.items() if name in changed and type(module) in relus}


def _is_plain_conv(layer: nn.Module) -> bool:
    if not isinstance(layer.weight, nn.Parameter):  # computed by weight_norm
        return False
    return type(layer) is nn.Conv2d or (isinstance(layer, QuantConv2d) and layer.scale is None)


def _refuse_shared(layers: dict[str, nn.Module]) -> None:
    """Two layers that share one weight would be parted."""
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        other = owners.setdefault(id(layer.weight), name)
        if other != name:
            raise UserError(f"{name}: shares its weight with {other}, which cannot be kept; give each its own")


def _choose(layers: dict[str, nn.Module], order: list[str], scheme: Scheme, where: Where) -> dict[str, nn.Module]:
    """The layers to binarize, or the reason why there are none; ``order`` are all of the network, binary ones too."""
    names = list(layers)
    if callable(where):
        chosen = {name: layer for name, layer in layers.items() if where(name, layer)}
    else:
        choose("where", where, ("inner", "all"))
        chosen = {name: layers[name] for name in (order[1:-1] if where == "inner" else order) if name in layers}
    if scheme.kernels:
        chosen = {name: layer for name, layer in chosen.items() if _kernel(layer) in scheme.kernels}
    if not chosen:
        raise UserError(
            f"{scheme.name}: there is nothing to binarize among {len(layers)} real convolutions and linear layers "
            f"({', '.join(names[:4]) or 'none'}); give a network with more of them, or where='all'"
        )
    return chosen


def _kernel(layer: nn.Module) -> int | None:
    """The side of a square kernel."""
    assert isinstance(layer.weight, Tensor)
    shape = layer.weight.shape[2:]
    return int(shape[0]) if len(shape) == 2 and shape[0] == shape[1] else None


def _quantized(name: str, layer: nn.Module, scheme: Scheme, *, real_input: bool) -> QuantLayer:
    """The scheme's layer in place of ``layer``, with its weights."""
    weight, bias = layer.weight, layer.bias
    if not isinstance(weight, nn.Parameter):
        raise UserError(f"{name}: its weight is computed (weight_norm, parametrize); remove that first")
    out, inputs = weight.shape[:2]
    if out % scheme.multiple or inputs % scheme.multiple:
        raise UserError(
            f"{name}: {scheme.name} needs channels in multiples of {scheme.multiple}, not {inputs} -> {out}; choose "
            "another width, or leave the layer out with where="
        )
    latent = scheme.latent(weight.detach()).clone()
    activation = Identity() if real_input else scheme.activation()
    if isinstance(layer, nn.Linear):
        made: QuantLayer = QuantLinear(
            inputs,
            out,
            weight_quantizer=scheme.weight(latent),
            activation_quantizer=activation,
            bias=bias is not None,
            latent=latent,
            latent_rule=scheme.latent_rule,
        )
    else:
        assert isinstance(layer, nn.Conv2d | QuantConv2d)
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise UserError(
                f"{name}: padding {layer.padding!r} ({layer.padding_mode}) cannot be binarized; use numbers"
            )
        shape = Shape2d.of(layer)
        if scheme.multiple > 1 and layer.groups > 1:
            raise UserError(f"{name}: {scheme.name} cannot take {layer.groups} groups; use groups=1, or leave it out")
        made = QuantConv2d(
            inputs * layer.groups,
            out,
            shape.kernel,
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            groups=layer.groups,
            weight_quantizer=scheme.weight(latent),
            activation_quantizer=activation,
            output_scale=isinstance(layer, QuantConv2d) and layer.scale is not None,
            bias=bias is not None,
            latent=latent,
            latent_rule=scheme.latent_rule,
            correction=None if real_input else scheme.correction(shape),
        )
    made.to(weight.device)
    made.weight.requires_grad_(weight.requires_grad)
    if isinstance(layer, QuantConv2d) and layer.scale is not None:
        made.scale = nn.Parameter(layer.scale.detach().clone(), requires_grad=layer.scale.requires_grad)
    if bias is not None:
        assert isinstance(bias, Tensor)
        made.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    return made


def _exact(layer: nn.Module) -> ExactConv2d:
    assert isinstance(layer, nn.Conv2d | QuantConv2d)
    out, inputs, *kernel = layer.weight.shape
    made = ExactConv2d(
        inputs * layer.groups,
        out,
        tuple(kernel),  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        layer.bias is not None,
        layer.padding_mode if isinstance(layer, nn.Conv2d) else "zeros",
        device=layer.weight.device,
    )
    made.weight, made.bias = layer.weight, layer.bias
    return made


def _norms(modules: Mapping[str, nn.Module], changed: set[str], scheme: Scheme) -> dict[str, nn.Module]:
    """What the scheme puts in the place of batch norms."""
    if scheme.norm is None:
        return {}
    made = scheme.norm
    return {name: made(norm) for name, norm in modules.items() if name in changed and _is_norm(norm)}
