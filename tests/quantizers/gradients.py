"""What every quantizer test asks for: output and gradient of one backward pass, in float64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Numbers = Tensor | Sequence[float]


def tensor(numbers: Numbers) -> Tensor:
    """Float64."""
    return numbers.double() if isinstance(numbers, Tensor) else torch.tensor(numbers, dtype=torch.float64)


def backward(function: Callable[[Tensor], Tensor], x: Numbers, upstream: Numbers) -> tuple[Tensor, Tensor]:
    """Output and dL/dx for L = sum(upstream * output)."""
    leaf = tensor(x).clone().requires_grad_()
    y = function(leaf)
    (gradient,) = torch.autograd.grad(y, leaf, tensor(upstream))
    return y.detach(), gradient


def slopes(function: Callable[[Tensor], Tensor], x: Numbers) -> Tensor:
    """dL/dx for an upstream gradient of ones: the mask of an elementwise quantizer."""
    return backward(function, x, torch.ones_like(function(tensor(x))))[1]


def assert_linear(function: Callable[[Tensor], Tensor], x: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """The gradient is linear in the upstream one: G(2 a - 3 b) = 2 G(a) - 3 G(b)."""
    generator = torch.Generator().manual_seed(7)
    a, b = (torch.randn(shape or x.shape, dtype=torch.float64, generator=generator) for _ in range(2))
    both, only_a, only_b = (backward(function, x, g)[1] for g in (2 * a - 3 * b, a, b))
    torch.testing.assert_close(both, 2 * only_a - 3 * only_b, rtol=1e-12, atol=1e-12)


def random(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    """Normal numbers in float64."""
    return spread * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def normal_grid(count: int) -> Tensor:
    """The midpoints of ``count`` equally probable slices of N(0, 1): means over them are exact expectations."""
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
