"""The real convolution before a sign: the same number whatever the order of its sum."""

import pytest
import torch
from torch import nn

from binarch.nn import ExactConv2d


def layer(**options: object) -> ExactConv2d:
    torch.manual_seed(0)
    return ExactConv2d(12, 5, 3, **options)


def test_evaluation_is_the_double_sum_rounded_once() -> None:
    conv = layer(padding=1, bias=True).eval()
    x = torch.randn(2, 12, 8, 8)
    with torch.no_grad():
        double = nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
        assert torch.equal(conv(x), double.float())


def test_cancellation_is_exact() -> None:
    conv = ExactConv2d(3, 1, 1, bias=False).eval()
    conv.weight.data.fill_(1)
    assert conv(torch.tensor([1e8, 1, -1e8]).view(1, 3, 1, 1)).item() == 1


def test_the_order_of_the_inputs_does_not_matter() -> None:
    conv, other, order = layer(bias=False).eval(), layer(bias=False).eval(), torch.randperm(12)
    other.weight.data = conv.weight.data[:, order].clone()
    x = torch.randn(4, 12, 9, 9)
    assert torch.equal(other(x[:, order]), conv(x))
    parts = torch.cat([conv(part) for part in x.split(1)])
    assert torch.equal(parts, conv(x))


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"groups": 1, "dilation": 2}, {"padding": "same"},
     {"padding": 1, "padding_mode": "reflect"}],
    ids=str,
)  # fmt: skip
def test_training_is_the_convolution_of_torch(options: dict[str, object]) -> None:
    conv, plain = layer(**options), nn.Conv2d(12, 5, 3, **options)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 12, 8, 8)
    assert torch.equal(conv(x), plain(x))
    torch.testing.assert_close(conv.eval()(x), plain(x))
    assert torch.equal(conv.double()(x.double()), plain.double()(x.double()))
