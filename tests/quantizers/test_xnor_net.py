"""XNOR-Net: the analytic scale, both gradients, the scale of the inputs."""

import numpy as np
import pytest
import torch
from gradients import assert_linear, backward, random, tensor
from torch import Tensor
from torch.nn import functional

from binarch.errors import UserError
from binarch.quantizers import CentredBoxed, InputScale, XnorWeight

ROW = (0.5, -0.25, 0.75, -1.2)


def row() -> Tensor:
    weight = tensor(ROW).view(1, 4, 1, 1)
    return weight.clamp(-1, 1)


def latent(*shape: int) -> Tensor:
    weight = random(*shape, spread=0.8)
    CentredBoxed().settle(weight)
    return weight


def written(w: Tensor, g: Tensor, gradient: str) -> np.ndarray:
    """The formulas of the docstring, filter by filter; |w| has no slope at 0."""
    result = np.zeros(w.shape)
    gain = w[0].numel() * (1 - 1 / w.shape[1] if w.shape[1] > 1 else 1)
    for o in range(len(w)):
        numbers, grads = w[o].numpy(), g[o].numpy()
        n, alpha, signs = numbers.size, np.abs(numbers).mean(), np.where(numbers >= 0, 1.0, -1.0)
        if gradient == "published":
            result[o] = gain * grads * (1 / n + alpha * (np.abs(numbers) < 1))
        else:
            through_scale = np.sign(numbers) / n * (signs * grads).sum()
            result[o] = gain * (alpha * (np.abs(numbers) <= 1) * grads + through_scale)
    return result


def test_fixed_row() -> None:
    y = XnorWeight()(row())
    assert y.flatten().tolist() == [0.625, -0.625, 0.625, -0.625]
    assert XnorWeight("published")(row()).tolist() == y.tolist()


def test_exact_gradient_is_a_finite_difference_and_a_window() -> None:
    """n (1 - 1/C) (d/dw sum(g alpha(w) s) with the signs s held fixed, plus alpha g in the window)."""
    w, g, h = row(), random(1, 4, 1, 1, seed=1), 1e-6
    signs = torch.where(w >= 0, 1.0, -1.0)

    def held(w: Tensor) -> Tensor:
        return (g * w.abs().mean() * signs).sum()

    shifts = torch.eye(4, dtype=torch.float64).view(4, 1, 4, 1, 1) * h
    slope = torch.stack([(held(w + shift) - held(w - shift)) / (2 * h) for shift in shifts]).view(1, 4, 1, 1)
    expected = 4 * (1 - 1 / 4) * (slope + 0.625 * g)
    torch.testing.assert_close(backward(XnorWeight("exact"), w, g)[1], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("gradient", ["exact", "published"])
@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 1, 5, 5), (6, 2, 1, 7), (3, 8)])
def test_gradient_is_the_written_one(gradient: str, shape: tuple[int, ...]) -> None:
    w, g = latent(*shape), random(*shape, seed=1)
    w.flatten()[:5] = tensor([0.0, 1.0, -1.0, 1.5, -0.0])
    np.testing.assert_allclose(backward(XnorWeight(gradient), w, g)[1], written(w, g, gradient), rtol=1e-12, atol=1e-13)
    assert_linear(XnorWeight(gradient), w)


def test_windows_differ_at_one() -> None:
    """At |w| = 1 the exact gradient has alpha g, the published one has not; beyond, neither."""
    w = tensor([1.0, 0.5, -0.5, 2.0]).view(1, 4, 1, 1)
    g = tensor([1.0, 0.0, 1.0, 0.0]).view(1, 4, 1, 1)  # sum of sign g is 0: nothing passes through alpha
    exact, published = (backward(XnorWeight(name), w, g)[1].flatten().tolist() for name in ("exact", "published"))
    assert exact == [3.0, 0, 3.0, 0]
    assert published == [0.75, 0, 3.75, 0]


def test_scale_is_per_filter_and_there_are_two_values() -> None:
    w = latent(6, 4, 3, 3)
    codes, scale = XnorWeight().quantize(w)
    assert scale.shape == (6, 1, 1, 1)
    torch.testing.assert_close(scale.flatten(), w.abs().flatten(1).sum(1) / 36)
    assert [len(filter_.unique()) for filter_ in codes * scale] == [2] * 6


@pytest.mark.parametrize("gradient", ["exact", "published"])
def test_a_filter_of_zeros_stays_finite(gradient: str) -> None:
    y, slope = backward(XnorWeight(gradient), torch.zeros(2, 3, 3, 3), torch.ones(2, 3, 3, 3))
    assert not y.any()
    assert slope.isfinite().all()


def test_an_unknown_gradient_is_named() -> None:
    with pytest.raises(UserError, match=r"gradient: 'true'.*exact, published"):
        XnorWeight("true")


@pytest.mark.parametrize(
    "kernel, stride, padding, dilation",
    [((3, 3), (1, 1), (1, 1), (1, 1)), ((3, 3), (2, 2), (2, 2), (2, 2)), ((1, 1), (2, 1), (0, 0), (1, 1)),
     ((5, 3), (1, 1), (4, 1), (1, 1)), ((3, 3), (1, 1), (4, 4), (4, 4))],
)  # fmt: skip
def test_inputs_are_scaled_by_a_box_filter_of_their_magnitude(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    x = random(2, 3, 8, 9).requires_grad_()
    box = torch.full((1, 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype=torch.float64)
    expected = functional.conv2d(x.abs().mean(1, keepdim=True), box, None, stride, padding, dilation)
    counts = random(2, 5, *expected.shape[2:], seed=1)
    scaled = InputScale(kernel, stride, padding, dilation)(counts, x)
    torch.testing.assert_close(scaled, counts * expected)
    upstream = random(*counts.shape, seed=2)
    ours, theirs = (torch.autograd.grad(y, x, upstream, retain_graph=True)[0] for y in (scaled, counts * expected))
    torch.testing.assert_close(ours, theirs)


def test_a_constant_map_keeps_its_magnitude_inside() -> None:
    y = InputScale((3, 3), (1, 1), (1, 1))(torch.ones(1, 2, 4, 4), torch.full((1, 6, 4, 4), -2.0))
    assert y[0, 0, 1:3, 1:3].tolist() == [[2, 2], [2, 2]]
    assert y[0, 0, 0, 0].item() == pytest.approx(2 * 4 / 9)
