"""What stands between binary convolutions in few passes, against the modules it stands for."""

import copy

import pytest
import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models.reactnet import ReActBlock
from binarch.nn import Binarization, Chain, ChannelShuffle, PReLU, ShiftedPair, binarize_, fused, passes
from binarch.nn.team import share

#: Pixels of 3 images: more than one block of rows, pooled ones too, and no whole number of them.
SHAPE = 3, 28, 26


def _moved(module: nn.Module) -> nn.Module:
    """All parameters away from where they start, so that none is a one or a zero that hides a mistake."""
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _operation(binarize: str, *, shuffled: bool = True) -> nn.Module:
    convolution = Binarization(binarize).conv(16, 16, 3, padding=1, groups=4)
    shuffle = ChannelShuffle(4) if shuffled else nn.Identity()
    return _moved(Chain(nn.BatchNorm2d(16), convolution, PReLU(16), shuffle))


def _reduction(scheme: str) -> nn.Module:
    halves = [Binarization("both", scheme=scheme).conv(16, 8, 1, stride=2) for _ in range(2)]
    return _moved(Chain(nn.BatchNorm2d(16), ShiftedPair(*halves), PReLU(16)))


def _strided() -> nn.Module:
    convolution = Binarization("both").conv(16, 16, 5, stride=2, padding=4, dilation=2)
    return _moved(Chain(nn.BatchNorm2d(16), convolution, PReLU(16)))


def _block(scheme: str, inputs: int, *, pool: bool) -> nn.Module:
    behind_pixels = nn.Sequential(nn.Conv2d(3, inputs, 1), ReActBlock(inputs, 16, pool=pool))
    binarize_(behind_pixels, scheme, where=lambda name, layer: name != "0")
    return _moved(behind_pixels[1])


BLOCKS = {
    "operation, binary": lambda: _operation("both"),
    "operation, binary activations": lambda: _operation("activations"),
    "operation without shuffle": lambda: _operation("both", shuffled=False),
    "reduction": lambda: _reduction("bats"),
    "reduction, polynomial gradient": lambda: _reduction("standardised"),
    "strided and dilated": _strided,
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
    n, height, width = SHAPE
    inputs = 8 if isinstance(module, ReActBlock) and module.copies == 2 else 16
    x = torch.randn(n, inputs, height, width).contiguous(memory_format=torch.channels_last)
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
    asked = []
    monkeypatch.setattr(fused, "share", lambda work, *given: (asked.append(work), share(work, *given)))
    quick = _run(copy.deepcopy(module), x, towards, half=False)
    assert passes.moments in asked, "the quick path was taken"
    assert passes.prelu_shuffle_back in asked or passes.sum_prelu_back in asked
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
        assert _apart(quick[key], value) < 5e-2, key


def _directly(name: str, x: Tensor, beside: Tensor) -> tuple[Tensor, ...]:
    """Output and all gradients of one function, with statistics where there are such."""
    norm, slope = nn.BatchNorm2d(16), torch.linspace(-0.5, 0.5, 16).requires_grad_()
    nn.init.uniform_(norm.weight, 0.5, 2)
    x = x.clone().requires_grad_()
    match name:
        case "normalised_signs":
            y = fused.normalised_signs(x, norm, polynomial=False)
        case "shuffled_prelu":
            y = fused.shuffled_prelu(x, slope, 4)
        case "biased_signs":
            y = fused.biased_signs(x, slope, polynomial=True)
        case _:
            y = fused.normalised_sum_prelu(x, norm, beside, slope)
    (y.float() * beside.float()).sum().backward()
    grads = [leaf.grad for leaf in (x, slope, norm.weight, norm.bias) if leaf.grad is not None]
    assert norm.running_mean is not None
    return y.detach(), norm.running_mean, *grads


@pytest.mark.parametrize("name", ["normalised_signs", "shuffled_prelu", "biased_signs", "normalised_sum_prelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_number_depends_on_the_threads(name: str, dtype: torch.dtype) -> None:
    x, beside = torch.randn(2, 5, 16, 23, 19).to(dtype)
    rows = 5 * 23 * 19
    assert rows > 4 * passes.BLOCK
    assert rows % passes.BLOCK
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(1)
            found.append(_directly(name, x, beside))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_what_does_not_fit_together_is_refused() -> None:
    x, norm = torch.randn(2, 4, 3, 3), nn.BatchNorm2d(4)
    with pytest.raises(ValueError, match=r"\(3,\) numbers for 4 channels"):
        fused.shuffled_prelu(x, torch.ones(3), 1)
    with pytest.raises(ValueError, match="shortcut of"):
        fused.normalised_sum_prelu(x, norm, torch.randn(2, 3, 3, 3), torch.ones(4))
    with pytest.raises(UserError, match="outputs: 6 is no multiple of 4"):
        ReActBlock(4, 6, pool=False)


def test_one_pixel_has_no_variance() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        _operation("both").train()(torch.randn(1, 16, 1, 1))
