"""Float networks by name: what a binarization scheme is applied to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import nn

from binarch.errors import UserError, choose
from binarch.models.nasnet import AMOEBANET_A, NASNET_A, ScaffoldNetwork
from binarch.models.reactnet import ReActNet
from binarch.models.resnet import CbcnResNet18, ResNet18, ResNet20
from binarch.models.vgg import VggSmall
from binarch.models.wide_resnet import WideResNet40


@final
@dataclass(frozen=True)
class Model:
    """One network of the catalogue."""

    description: str
    """One line for people."""
    width: int
    """Channels of the first stage as published; those of the later stages are multiples of it."""
    build: Callable[[int, int, int], nn.Module]
    """Function of (width, classes, image_size)."""
    with_auxiliary: Callable[[int, int, int], nn.Module] | None = None
    """The same with an auxiliary head beside it, for training; None: the network has none."""
    least_width: int = 1
    """For cells 4: in narrower ones PyTorch's strided convolutions write out of bounds (see spaces/darts.py)."""


def _wide(widen: int) -> Callable[[int, int, int], nn.Module]:
    return lambda width, classes, _: WideResNet40(width=width, widen=widen, classes=classes)


def _nasnet_a(auxiliary: bool) -> Callable[[int, int, int], nn.Module]:
    return lambda width, classes, size: ScaffoldNetwork(
        NASNET_A, width=width, stem=3 * width, classes=classes, auxiliary=auxiliary, image_size=size
    )


def _amoebanet_a(auxiliary: bool) -> Callable[[int, int, int], nn.Module]:
    return lambda width, classes, size: ScaffoldNetwork(
        AMOEBANET_A, width=width, stem=32, classes=classes, auxiliary=auxiliary, image_size=size
    )


MODELS: dict[str, Model] = {
    "vgg-small": Model(
        "six convolutions and one linear layer (HWGQ, LQ-Nets)",
        128,
        lambda width, classes, size: VggSmall(width=width, classes=classes, image_size=size),
    ),
    "vgg-small-fc": Model(
        "six convolutions and three linear layers (BinaryConnect, BNN, XNOR-Net)",
        128,
        lambda width, classes, size: VggSmall(width=width, classes=classes, image_size=size, hidden=8 * width),
    ),
    "resnet20": Model(
        "pre-activation ResNet-20, shortcuts without parameters (TTQ)",
        16,
        lambda width, classes, _: ResNet20(width=width, classes=classes),
    ),
    "resnet18": Model(
        "ResNet-18 with a stem for small images",
        64,
        lambda width, classes, _: ResNet18(width=width, classes=classes),
    ),
    "resnet18-cbcn": Model(
        "ResNet-18 with a shortcut around every convolution (CBCN)",
        64,
        lambda width, classes, _: CbcnResNet18(width=width, classes=classes),
    ),
    "reactnet-small": Model(
        "nine blocks of ReActNet behind a stem of stride 2, made for quick training",
        96,
        lambda width, classes, _: ReActNet(blocks=(3, 3, 3), halve=True, width=width, classes=classes),
    ),
    "reactnet-fine": Model(
        "ten blocks of ReActNet in four stages, the first at full size",
        48,
        lambda width, classes, _: ReActNet(blocks=(2, 3, 3, 2), halve=False, width=width, classes=classes),
    ),
    "wrn40-1": Model("wide ResNet of 40 layers, widths 16-16-32-64", 16, _wide(1)),
    "wrn40-2": Model("wide ResNet of 40 layers, widths 16-32-64-128; the stem has width / 2", 32, _wide(2)),
    "wrn40-4": Model("wide ResNet of 40 layers, widths 16-64-128-256; the stem has width / 4", 64, _wide(4)),
    "wrn40-cbcn": Model("wide ResNet of 40 layers, widths 64-64-128-256 (CBCN)", 64, _wide(1)),
    "nasnet-a": Model("NASNet-A, 20 cells, as its authors built it", 32, _nasnet_a(False), _nasnet_a(True), 4),
    "amoebanet-a": Model(
        "AmoebaNet-A, 20 cells, as its authors built it; the stem has 32",
        36,
        _amoebanet_a(False),
        _amoebanet_a(True),
        4,
    ),
}


def build_model(
    name: str, *, classes: int, image_size: int, width: int | None = None, auxiliary: bool = False
) -> nn.Module:
    """The float network ``name`` of :data:`MODELS`, untrained: (N, 3, S, S) images to (N, ``classes``) logits.

    ``width`` is the number of channels of the first stage; without it, the published one. ``image_size`` is S: 8 or
    more, for the VGGs a multiple of 8. With ``auxiliary`` the network has its auxiliary head and returns (logits,
    auxiliary logits) in training. A :class:`UserError` names what is not possible.
    """
    model = MODELS[choose("model", name, MODELS)]
    chosen = model.width if width is None else width
    smallest = {"classes": (classes, 1), "image_size": (image_size, 8), "width": (chosen, model.least_width)}
    for field, (value, least) in smallest.items():
        if value < least:
            raise UserError(f"{field}: {value} is not possible; use {least} or more")
    if not auxiliary:
        return model.build(chosen, classes, image_size)
    if model.with_auxiliary is None:
        having = ", ".join(key for key, other in MODELS.items() if other.with_auxiliary)
        raise UserError(f"auxiliary: {name} has no auxiliary head ({having} have one); use --no-auxiliary")
    return model.with_auxiliary(chosen, classes, image_size)
