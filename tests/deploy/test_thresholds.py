"""Batch norm and sign as one comparison: the code of every float is that of torch's own layers."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from binarch.deploy import Builder, pack_network
from binarch.nn import PReLU, QuantConv2d
from binarch.quantizers import CentredSign, Sign
from binarch.runtime import Program, reference
from binarch.runtime.ops import Affine, BitConv, Clip, Image, PRelu, Quantize, Window

torch.set_num_threads(1)
CHANNELS = 19

# Without a fused multiply-add PyTorch's batch norm rounds twice, and a few floats fall on the other side.
pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="PyTorch's kernels have no fused multiply-add here"
)


def signs(channels: int) -> QuantConv2d:
    return QuantConv2d(
        channels, channels, 1, groups=channels, weight_quantizer=CentredSign(), activation_quantizer=Sign()
    )


@torch.no_grad()
def batch_norm(seed: int, size: float = 1.0) -> nn.BatchNorm2d:
    """Statistics of any size, gammas of both signs and zeros."""
    torch.manual_seed(seed)
    module = nn.BatchNorm2d(CHANNELS)
    mean, var = module.get_buffer("running_mean"), module.get_buffer("running_var")
    for tensor in (module.weight, module.bias, mean):
        tensor.normal_().mul_(torch.exp(size * torch.randn(CHANNELS)))
    var.copy_(torch.exp(2 * size * torch.randn(CHANNELS)))
    module.weight[::6] = 0
    module.bias[::12] = 0
    mean[1::6] = 0
    return module.eval()


def packed(*layers: nn.Module) -> tuple[Program, Quantize]:
    """Layers between an image that passes unchanged and a sign; the program's comparison."""
    network = nn.Sequential(*layers, signs(CHANNELS), nn.AdaptiveAvgPool2d(1)).eval()
    names = {"classes": ["x"] * CHANNELS}
    program = pack_network(network, size=(1, 7), mean=[0] * CHANNELS, std=[1] * CHANNELS, card=names)
    assert [op.name for op in program.ops] == ["image", "quantize", "bitconv", "mean"]
    assert isinstance(program.ops[1], Quantize)
    return program, program.ops[1]


def neighbours(middle: np.ndarray, steps: int) -> np.ndarray:
    """Floats around each threshold, one after the other: (2 steps + 1, channels)."""
    middle = np.where(np.isfinite(middle), middle, 0).astype(np.float32)
    rows = [middle]
    for direction in (-np.inf, np.inf):
        values = middle
        for _ in range(steps):
            values = np.nextafter(values, np.float32(direction), dtype=np.float32)
            rows.append(values)
    return np.stack(rows)


def assert_same_codes(layers: list[nn.Module], seed: int) -> None:
    program, quantize = packed(*layers)
    thresholds = program.reals[quantize.thresholds :][:CHANNELS]
    draw = np.random.default_rng(seed)
    anything = draw.normal(0, 1, (300, CHANNELS)) * 10.0 ** draw.integers(-6, 6, (300, 1))
    special = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 3e38, -3e38])[:, None].repeat(CHANNELS, 1)
    x = np.concatenate([neighbours(thresholds, 40), anything, special]).astype(np.float32)
    x = x[:, :, None, None].repeat(7, 3)
    codes = reference.trace(program, x)[1]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y: Tensor = torch.from_numpy(x).contiguous(memory_format=memory_format)
        with torch.no_grad():
            for layer in layers:
                y = layer(y)
        sound = ~y.isnan().numpy()  # infinity times zero, where a first layer overflows
        np.testing.assert_array_equal((codes == 1)[sound], (y >= 0).numpy()[sound])


@pytest.mark.parametrize("size", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(20))
def test_batch_norm_and_sign(seed: int, size: float) -> None:
    assert_same_codes([batch_norm(seed, size)], seed)


@pytest.mark.parametrize("seed", range(10))
def test_layers_between_batch_norm_and_sign(seed: int) -> None:
    rising = PReLU(CHANNELS)
    with torch.no_grad():
        rising.weight.uniform_(0, 2)[::4] = 0
    one, two = batch_norm(seed), batch_norm(seed + 100)
    chains: list[list[nn.Module]] = [
        [nn.ReLU()], [nn.Hardtanh()], [one, nn.Hardtanh(), two], [one, nn.ReLU(), two], [one, two], [nn.ReLU6(), two],
        [one, rising, two], [rising, one, nn.Identity()], [nn.BatchNorm2d(CHANNELS, affine=False).eval()],
    ]  # fmt: skip
    for layers in chains:
        assert_same_codes(layers, seed)


def test_a_falling_prelu_is_no_threshold() -> None:
    bent = nn.PReLU(CHANNELS, -0.5)
    network = nn.Sequential(bent, signs(CHANNELS), nn.AdaptiveAvgPool2d(1))
    names = {"classes": ["x"] * CHANNELS}
    program = pack_network(network, size=(1, 2), mean=[0] * CHANNELS, std=[1] * CHANNELS, card=names)
    assert [op.name for op in program.ops] == ["image", "prelu", "quantize", "bitconv", "mean"]


@pytest.mark.parametrize("seed", range(10))
def test_several_levels(seed: int) -> None:
    """Comparisons before batch norm, PReLU and clip, against the same levels counted after them."""
    draw = np.random.default_rng(seed)
    scale, shift, slope = draw.normal(0, 1, CHANNELS), draw.normal(0, 1, CHANNELS), draw.random(CHANNELS)
    scale[::5] = 0
    levels = np.array([-0.5, 0.25, 0.75], np.float32)
    builder = Builder()
    zero, one = (builder.reals(np.full(CHANNELS, number)) for number in (0, 1))
    x = builder.add(Image(CHANNELS, 1, 1, zero, one))
    x = builder.add(Affine(x, builder.reals(scale), builder.reals(shift)))
    x = builder.add(Clip(builder.add(PRelu(x, builder.reals(slope))), -0.6, 0.8))
    add_reader(builder, builder.quantize(x, levels))
    program = builder.program({"classes": ["x"]})
    assert [op.name for op in program.ops] == ["image", "quantize", "bitconv"]
    quantize = program.ops[1]
    assert isinstance(quantize, Quantize)
    thresholds = program.reals[quantize.thresholds :][: 3 * CHANNELS].reshape(CHANNELS, 3)
    around = [neighbours(thresholds[:, k], 20) for k in range(3)]
    images = np.concatenate([*around, draw.normal(0, 2, (500, CHANNELS)).astype(np.float32)])
    y = (images.astype(np.float64) * np.float32(scale) + np.float32(shift)).astype(np.float32)
    y = np.where(y > 0, y, y * slope.astype(np.float32)).clip(np.float32(-0.6), np.float32(0.8))
    codes = reference.trace(program, images[:, :, None, None])[1][:, :, 0, 0]
    np.testing.assert_array_equal(codes, sum((y >= level).astype(int) for level in levels))
    assert set(np.unique(codes)) == {0, 1, 2, 3}


def add_reader(builder: Builder, codes: int) -> None:
    """Something that reads codes and yields one logit."""
    shape = builder.shapes[codes]
    one = Window((1, 1), (1, 1), (1, 1), (0, 0), (1, 1))
    weight, scale = builder.bits(np.ones(shape.channels)), builder.reals(np.ones(1))
    builder.add(BitConv(codes, one, 1, 1, weight, (-1, 1), tuple(range(shape.levels)), scale))
