"""What stands between binary convolutions in few passes, against the modules it stands for."""

import copy

import pytest
import torch
from torch import Tensor, nn

from binarch.models.reactnet import ReActBlock
from binarch.nn import Binarization, Chain, ChannelShuffle, PReLU, binarize_, fused

SHAPE = 3, 16, 9, 7


def _moved(module: nn.Module) -> nn.Module:
    """All parameters away from where they start, so that none is a one or a zero that hides a mistake."""
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _operation(binarize: str, *, shuffled: bool = True) -> nn.Module:
    convolution = Binarization(binarize).conv(16, 16, 3, padding=1, groups=4)
    shuffle = ChannelShuffle(4) if shuffled else nn.Identity()
    return _moved(Chain(nn.BatchNorm2d(16), convolution, PReLU(16), shuffle))


def _block(scheme: str, inputs: int, *, pool: bool) -> nn.Module:
    block = ReActBlock(inputs, 16, pool=pool)
    binarize_(block, scheme, where="all")
    return _moved(block)


BLOCKS = {
    "operation, binary": lambda: _operation("both"),
    "operation, binary activations": lambda: _operation("activations"),
    "operation without shuffle": lambda: _operation("both", shuffled=False),
    "block": lambda: _block("standardised", 16, pool=False),
    "block, straight-through sign": lambda: _block("bats", 16, pool=False),
    "block, wider and pooled": lambda: _block("standardised", 8, pool=True),
}


def _run(module: nn.Module, x: Tensor, towards: Tensor, *, half: bool) -> dict[str, Tensor]:
    """Output, all gradients and the running statistics of one step."""
    module.train()
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = module(leaf)
    (y.float() * towards).sum().backward()
    found = {f"grad {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    found |= {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert leaf.grad is not None
    return found | {"output": y.detach(), "grad input": leaf.grad}


def _inputs(module: nn.Module) -> tuple[Tensor, Tensor]:
    n, _, height, width = SHAPE
    inputs = 8 if isinstance(module, ReActBlock) and module.copies == 2 else 16
    x = torch.randn(n, inputs, height - 1, width + 1).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return x, torch.randn_like(copy.deepcopy(module)(x))


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-12))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", BLOCKS)
def test_few_passes_equal_the_modules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = BLOCKS[name]()
    x, towards = _inputs(module)
    quick = _run(copy.deepcopy(module), x, towards, half=False)
    monkeypatch.setattr(fused, "fits", lambda x: False)
    plain = _run(copy.deepcopy(module), x, towards, half=False)
    assert quick.keys() == plain.keys()
    for key, value in plain.items():
        assert _apart(quick[key], value) < 1e-5, key


@pytest.mark.parametrize("name", BLOCKS)
def test_half_precision_is_near_the_modules_in_single(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = BLOCKS[name]()
    x, towards = _inputs(module)
    quick = _run(copy.deepcopy(module), x, towards, half=True)
    monkeypatch.setattr(fused, "fits", lambda x: False)
    plain = _run(copy.deepcopy(module), x, towards, half=False)
    for key, value in plain.items():
        # bfloat16 tells 1 from 1 + 1/128; a rounded sum may fall on the other side of a window or of PReLU's bend
        assert _apart(quick[key], value) < 2e-2, key
