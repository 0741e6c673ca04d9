r"""Square convolutions on CPUs with a fraction of the multiplications (Lavin and Gray, 2016), backward too.

Winograd's F(m x m, k x k), here with m + k - 1 = 6: a 6 x 6 tile d of the input and a k x k filter g give an m x m tile
of the output as

.. math:: y = A^T [(G g G^T) \odot (B^T d B)] A,

36 products where m^2 k^2 stand in the sum: 144 for k = 3, m = 4; 100 for k = 5, m = 2. Summed over input channels the
products are 36 matrix products, one per place in the tile, which is what processors do best. All three passes use them:
with :math:`U = G g G^T`, :math:`V = B^T d B` and the gradient :math:`\bar y`,

.. math:: \bar M = A \bar y A^T, \quad \bar V = \bar M U^T, \quad \bar U = V^T \bar M, \quad
          \bar d = B \bar V B^T, \quad \bar g = G^T \bar U G.

The matrices come from polynomials (Toom and Cook) at five points and infinity: rows of A and G are powers of the
points, those of G divided by the product of the distances to the others; B holds the polynomials that vanish at all
points but one, and is the same for all k.

It rounds more than the sum does: some 1e-6 of the largest number in float32. Where both operands are codes of +-1, the
sum is an integer, and the result is rounded to it: the forward pass is exact, bit for bit.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias, final

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from binarch.nn.team import share
from binarch.nn.tiles import LANES, make_transform

Maps: TypeAlias = NDArray[np.float32]

#: Digest of tiles.py, whose code is compiled into these loops: Numba's cache looks at this file only (a test compares).
VECTOR_CODE = "bc1f396c6b1ac8de"
#: Side of a tile of the input.
SIDE = 6
#: Tiles that a thread works on at once: few enough for the cache, enough for quick matrix products.
AT_ONCE = 128
#: Channels from which on it is worth the transforms, by the kernel's side: with AVX2; with AVX-512 (results/log.md).
FEWEST = {3: 32, 5: 56}
FEWEST_512 = 96
#: Inputs of a filter up to which float32 tells integer sums apart, with room to spare: the largest error found is 0.03.
MOST = 9 * 1024

#: 0, +-1, +-2, which textbooks take, round three times as much.
_POINTS = np.array([0, 0.75, -0.75, 1.5, -1.5])


def _powers(count: int) -> NDArray[np.float64]:
    """Powers 0 .. count - 1 of the points, (6, count); of infinity the highest counts."""
    return np.vstack([np.vander(_POINTS, count, increasing=True), np.eye(count)[-1]])


def _polynomials() -> NDArray[np.float64]:
    """B: coefficients of the polynomials that vanish at all points but one, and of the one that does at all."""
    without = [np.append(np.poly(np.delete(_POINTS, i))[::-1], 0) for i in range(len(_POINTS))]
    return np.array([*without, np.poly(_POINTS)[::-1]]).T


def _filter_change(kernel: int) -> Tensor:
    """G g G^T as a product with g, read row by row: the Kronecker product of G with itself, (36, kernel^2)."""
    distances = [np.prod(point - np.delete(_POINTS, i)) for i, point in enumerate(_POINTS)]
    g = _powers(kernel) / np.array([*distances, 1])[:, None]
    return torch.from_numpy(np.kron(g, g)).float()


_to_products = make_transform(_polynomials().T)
_back_to_input = make_transform(_polynomials())
_from_products4, _from_products2 = make_transform(_powers(4).T), make_transform(_powers(2).T)
_from_integers4, _from_integers2 = make_transform(_powers(4).T, scaled=True), make_transform(_powers(2).T, scaled=True)
_back_to_products4, _back_to_products2 = make_transform(_powers(4)), make_transform(_powers(2))


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`convolve` can do it and is quicker than PyTorch: 3 x 3 or 5 x 5, many channels, on a CPU."""
    out, inputs, *kernel = weight.shape
    if kernel not in ([3, 3], [5, 5]) or torch.compiler.is_compiling():
        return False
    tile = SIDE + 1 - kernel[0]
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 4
        and x.shape[1] == inputs
        and min(out, inputs) >= _fewest(kernel[0])
        and inputs * kernel[0] ** 2 <= MOST
        and out % LANES == inputs % LANES == 0
        and x.shape[2] % tile == x.shape[3] % tile == 0
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def _fewest(kernel: int) -> int:
    return FEWEST_512 if torch.backends.cpu.get_cpu_capability() == "AVX512" else FEWEST[kernel]


def convolve(x: Tensor, weight: Tensor, factor: Tensor | None = None) -> Tensor:
    """Convolve (N, in, H, W) with filters (out, in, k, k), stride 1, padding k // 2; H and W are multiples of 7 - k.

    With a ``factor`` (out,) all sums are known to be integers, are rounded to such, and multiplied by the factor of
    their filter. Gradients flow to all three, once.
    """
    output: Tensor = _Convolve.apply(x, weight, factor)
    return output


@final
class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, factor: Tensor | None) -> Tensor:
        out, _, kernel, _ = weight.shape
        filters, tile = _filters(weight), SIDE + 1 - kernel
        ctx.save_for_backward(x, weight, factor)
        maps = _last(x)
        y = np.empty((*maps.shape[:3], out), np.float32)
        scales = None if factor is None else factor.detach().numpy()
        for images, v, m in _portions(maps, y, tile):
            count = images.stop - images.start
            share(_input, count, maps[images], v, tile)
            torch.bmm(torch.from_numpy(v), filters, out=torch.from_numpy(m))
            if scales is None:
                share(_output, count, m, y[images], tile)
            else:
                share(_integers, count, m, y[images], tile, scales)
        return torch.from_numpy(y).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight, factor = ctx.saved_tensors
        out, inputs, kernel, _ = weight.shape
        tile = SIDE + 1 - kernel
        to_input, *to_others = ctx.needs_input_grad
        to_filters = any(to_others)
        filters = _filters(weight if factor is None else weight * factor.view(-1, 1, 1, 1)).mT
        maps, grads = _last(x), _last(grad)
        found, sums = np.empty(maps.shape, np.float32), torch.zeros(SIDE**2, inputs, out)
        for images, v, m in _portions(maps, grads, tile):
            count = images.stop - images.start
            share(_output_back, count, grads[images], m, tile)
            if to_filters:
                share(_input, count, maps[images], v, tile)
                sums.baddbmm_(torch.from_numpy(v).mT, torch.from_numpy(m))
            if to_input:
                torch.bmm(torch.from_numpy(m), filters, out=torch.from_numpy(v))
                share(_input_back, count, v, found[images], tile)
        x_grad = torch.from_numpy(found).permute(0, 3, 1, 2) if to_input else None
        if not to_filters:
            return x_grad, None, None
        back = _filter_change(kernel).T @ sums.view(SIDE**2, -1)
        bank = back.view(kernel, kernel, inputs, out).permute(3, 2, 0, 1)
        if factor is None:
            return x_grad, bank, None
        # The gradient of a factor, the sum of grad times the sums of codes, is what the filter's own holds already.
        return x_grad, bank * factor.view(-1, 1, 1, 1), (bank * weight).sum((1, 2, 3))


def _filters(weight: Tensor) -> Tensor:
    """U = G g G^T of all filters (out, in, k, k), as 36 matrices (in, out)."""
    out, inputs, kernel, _ = weight.shape
    rows = weight.permute(2, 3, 1, 0).reshape(kernel**2, -1)
    return (_filter_change(kernel) @ rows).view(SIDE**2, inputs, out)


def _last(x: Tensor) -> Maps:
    """Maps with the channels last, as an array; no copy where they lie so already."""
    array: Maps = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return array


def _portions(x: Maps, y: Maps, tile: int) -> Iterator[tuple[slice, Maps, Maps]]:
    """Images that are worked on at once, and room for the 36 products of their tiles: V (36, tiles, in), M (.., out).

    The room is the same for all portions: fresh memory is slow.
    """
    each = x.shape[1] * x.shape[2] // tile**2
    threads = torch.get_num_threads()
    step = max(threads, AT_ONCE * threads // each)
    channels = x.shape[3], y.shape[3]
    rooms = [np.empty(SIDE**2 * min(step, len(x)) * each * c, np.float32) for c in channels]
    for start in range(0, len(x), step):
        images = slice(start, min(start + step, len(x)))
        tiles = (images.stop - start) * each
        v, m = (
            room[: SIDE**2 * tiles * maps.shape[3]].reshape(SIDE**2, tiles, -1)
            for room, maps in zip(rooms, (x, y), strict=True)
        )
        yield images, v, m


@njit(cache=True)
def _inside(start: int, size: int) -> tuple[int, int]:
    """The places, from first to before last, of an input's tile that lie inside of the map."""
    return max(0, -start), min(6, size - start)


@njit(cache=True, nogil=True)
def _input(x: Any, v: Any, size: int, first: int, last: int) -> None:
    """V = B^T d B of the tiles of some images; ``size`` is that of the output's tiles."""
    n, height, width, c = x.shape
    rows, columns, pad, source, target = height // size, width // size, 3 - size // 2, x.reshape(-1), v.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    for line in range(first * rows, last * rows):
        y = line % rows * size - pad
        top, bottom = _inside(y, height)
        start = (line // rows * height + y) * width - pad
        tile = np.zeros(36 * c, np.float32)
        for column in range(columns):
            left, right = _inside(column * size - pad, width)
            for i in range(top, bottom):
                place = start + i * width + column * size
                tile[(i * 6 + left) * c : (i * 6 + right) * c] = source[(place + left) * c : (place + right) * c]
                tile[(i * 6 + right) * c : (i * 6 + 6) * c] = 0
            _to_products(tile, 0, 6 * c, c, target, (line * columns + column) * c, 6 * apart, apart, channels)


@njit(cache=True, nogil=True)
def _output(m: Any, y: Any, size: int, first: int, last: int) -> None:
    """y = A^T M A of the tiles of some images."""
    n, height, width, c = y.shape
    rows, columns, source, target = height // size, width // size, m.reshape(-1), y.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    for line in range(first * rows, last * rows):
        for column in range(columns):
            place, to = (line * columns + column) * c, (line * width + column) * size * c
            if size == 4:
                _from_products4(source, place, 6 * apart, apart, target, to, width * c, c, channels)
            else:
                _from_products2(source, place, 6 * apart, apart, target, to, width * c, c, channels)


@njit(cache=True, nogil=True)
def _integers(m: Any, y: Any, size: int, factors: Any, first: int, last: int) -> None:
    """y = A^T M A of the tiles of some images, rounded to integers and scaled."""
    n, height, width, c = y.shape
    rows, columns, source, target = height // size, width // size, m.reshape(-1), y.reshape(-1)
    apart = n * rows * columns * c
    for line in range(first * rows, last * rows):
        for column in range(columns):
            place, to = (line * columns + column) * c, (line * width + column) * size * c
            if size == 4:
                _from_integers4(source, place, 6 * apart, apart, target, to, width * c, c, factors)
            else:
                _from_integers2(source, place, 6 * apart, apart, target, to, width * c, c, factors)


@njit(cache=True, nogil=True)
def _output_back(grad: Any, m: Any, size: int, first: int, last: int) -> None:
    """The gradients of M, A grad A^T, of the tiles of some images."""
    n, height, width, c = grad.shape
    rows, columns, source, target = height // size, width // size, grad.reshape(-1), m.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    for line in range(first * rows, last * rows):
        for column in range(columns):
            place, to = (line * width + column) * size * c, (line * columns + column) * c
            if size == 4:
                _back_to_products4(source, place, width * c, c, target, to, 6 * apart, apart, channels)
            else:
                _back_to_products2(source, place, width * c, c, target, to, 6 * apart, apart, channels)


@njit(cache=True, nogil=True)
def _input_back(v: Any, grad: Any, size: int, first: int, last: int) -> None:
    """The gradients of some images: B V B^T of their tiles, added where tiles overlap."""
    n, height, width, c = grad.shape
    rows, columns, pad, source, target = height // size, width // size, 3 - size // 2, v.reshape(-1), grad.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    target[first * height * width * c : last * height * width * c] = 0
    tile = np.empty(36 * c, np.float32)
    for line in range(first * rows, last * rows):
        y = line % rows * size - pad
        top, bottom = _inside(y, height)
        start = (line // rows * height + y) * width - pad
        for column in range(columns):
            left, right = _inside(column * size - pad, width)
            place = (line * columns + column) * c
            _back_to_input(source, place, 6 * apart, apart, tile, 0, 6 * c, c, channels)
            for i in range(top, bottom):
                to, begin = (start + i * width + column * size) * c, i * 6 * c
                for k in range(left * c, right * c):
                    target[to + k] += tile[begin + k]
