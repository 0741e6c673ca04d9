"""Shuffle, shifted pair, zero, drop-path, batch norm."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from binarch.nn import Binarization, ChannelShuffle, DropPath, ShiftedPair, Zero, batch_norm, shifted

ORDER = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_shuffle_interleaves_and_its_gradient_is_the_inverse(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 12, 3, 5).to(memory_format=memory_format).requires_grad_()
    y = ChannelShuffle(4)(x)
    assert torch.equal(y, x[:, ORDER])
    assert y.is_contiguous(memory_format=memory_format)
    upstream = torch.randn(2, 12, 3, 5)
    y.backward(upstream)
    assert torch.equal(x.grad[:, ORDER], upstream)


@pytest.mark.parametrize("channels, groups", [(12, 3), (12, 1), (12, 12), (36, 4)])
def test_shuffle_follows_its_formula(channels: int, groups: int) -> None:
    index = torch.arange(channels).float().view(1, -1, 1, 1)
    expected = [g * (channels // groups) + i for i in range(channels // groups) for g in range(groups)]
    for memory_format in FORMATS:
        x = index.expand(2, -1, 3, 3).contiguous(memory_format=memory_format)
        assert ChannelShuffle(groups)(x)[1, :, 2, 0].tolist() == expected


def pair() -> ShiftedPair:
    torch.manual_seed(0)
    return ShiftedPair(*(nn.Conv2d(4, 3, 1, 2, bias=False) for _ in range(2)))


def test_shifted_pair_on_even_sizes_is_two_slices() -> None:
    layer, x = pair(), torch.randn(2, 4, 6, 8)
    expected = torch.cat([layer.first(x), layer.second(x[:, :, 1:, 1:])], 1)
    assert torch.equal(layer(x), expected)
    assert expected.shape == (2, 6, 3, 4)


@pytest.mark.parametrize("size", [(7, 7), (7, 6), (6, 7), (5, 9), (1, 1), (1, 4)], ids=str)
def test_shifted_pair_on_odd_sizes_convolves_a_zero_padded_map(size: tuple[int, int]) -> None:
    layer, x = pair(), torch.randn(2, 4, *size)
    padded = functional.pad(x, (0, size[1] % 2, 0, size[0] % 2))
    expected = torch.cat([layer.first(x), layer.second(padded[:, :, 1:, 1:])], 1)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape[2:] == tuple((n + 1) // 2 for n in size)
    torch.testing.assert_close(layer(x)[:, 3:], layer.second(shifted(x)))


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 1)], ids=str)
def test_a_binary_pair_adds_nothing_beyond_the_map(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = ShiftedPair(*(Binarization("both").conv(4, 3, 1, stride=2) for _ in range(2)))
    x = torch.randn(2, 4, *size)
    assert not layer(x)[:, 3:].any()
    assert torch.equal(layer(x)[:, :3], layer.first(x))
    assert torch.equal(layer.from_signs(torch.sign(x)), layer(x))


def test_shifted_moves_up_and_left() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert shifted(x)[0, 0].tolist() == [[4, 5, 0], [7, 8, 0], [0, 0, 0]]
    even = torch.randn(1, 2, 4, 4)
    assert torch.equal(shifted(even), even[..., 1:, 1:])


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_zero_has_the_shape_and_no_gradient(stride: int, size: int) -> None:
    x = torch.randn(2, 3, size, size, dtype=torch.float16, requires_grad=True)
    y = Zero(stride)(x)
    assert y.shape == (2, 3, -(-size // stride), -(-size // stride))
    assert y.dtype == x.dtype
    assert not y.any()
    assert not y.requires_grad


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    n, p = 100_000, 0.2
    sample = torch.tensor([1.0, 2.0, -3.0, 4.0]).view(1, 2, 1, 2)
    y = DropPath(p)(sample.expand(n, -1, -1, -1))
    factors = y / sample
    assert (factors == factors[:, :1, :1, :1]).all()
    assert factors.unique().tolist() == [0.0, 1.25]
    torch.testing.assert_close(y.mean(0, keepdim=True), sample, rtol=0.01, atol=0)


@pytest.mark.parametrize("probability, training", [(0.0, True), (0.9, False), (0.0, False)])
def test_drop_path_does_nothing(probability: float, training: bool) -> None:
    x = torch.randn(8, 2, 3, 3)
    assert DropPath(probability).train(training)(x) is x


def test_drop_path_keeps_the_shape_of_any_sample() -> None:
    x = torch.ones(5, 3)
    y = DropPath(0.5)(x)
    assert y.shape == x.shape
    assert all(row.unique().tolist() in ([0.0], [2.0]) for row in y)


def test_drop_path_gradient_is_the_mask() -> None:
    torch.manual_seed(0)
    x = torch.ones(64, 2, 2, 2, requires_grad=True)
    y = DropPath(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_batch_norm_of_a_supernet_holds_nothing() -> None:
    layer = batch_norm(6, search=True)
    assert list(layer.parameters()) == list(layer.buffers()) == []
    x = 3 * torch.randn(8, 6, 4, 4) + 2
    assert torch.equal(layer(x), layer.eval()(x))  # the batch's own statistics, always
    torch.testing.assert_close(layer(x).mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-5)


def test_batch_norm_of_a_network_learns_and_remembers() -> None:
    layer = batch_norm(6, search=False)
    assert sum(p.numel() for p in layer.parameters()) == 12
    assert {name for name, _ in layer.named_buffers()} == {"running_mean", "running_var", "num_batches_tracked"}
