r"""3 x 3 convolutions on processors with a quarter of the multiplications (Lavin and Gray, 2016), backward too.

Winograd's F(4 x 4, 3 x 3): a 6 x 6 tile d of the input and a filter g give a 4 x 4 tile of the output as

.. math:: y = A^T [(G g G^T) \odot (B^T d B)] A,

36 products where 144 stand in the sum. Summed over input channels the products are 36 matrix products, one per place in
the tile, which is what processors do best. All three passes use them: with :math:`U = G g G^T`, :math:`V = B^T d B`
and the gradient :math:`\bar y`,

.. math:: \bar M = A \bar y A^T, \quad \bar V = \bar M U^T, \quad \bar U = V^T \bar M, \quad
          \bar d = B \bar V B^T, \quad \bar g = G^T \bar U G.

It rounds more than the sum does: 1e-5 of the largest number in float32. Where both operands are codes of +-1, the sum
is an integer, and the result is rounded to it: the forward pass is exact, bit for bit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias, final

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from binarch.nn.tiles import LANES, make_transform

Maps: TypeAlias = NDArray[np.float32]

#: Side of a tile of the output.
TILE = 4
#: Tiles that a thread works on at once: few enough for the cache, enough for quick matrix products.
AT_ONCE = 128
#: Channels from which on it is worth the transforms.
FEWEST = 64
#: Input channels up to which float32 tells integer sums apart, with room to spare: all of one sign err by 0.1.
MOST = 1024

_A = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]], float)
_B = np.array(
    [
        [4, 0, 0, 0, 0, 0],
        [0, -4, 4, -2, 2, 4],
        [-5, -4, -4, -1, -1, 0],
        [0, 1, -1, 2, -2, -5],
        [1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ],
    float,
)
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], float) / 24

_to_products = make_transform(_B.T)
_from_products = make_transform(_A.T)
_from_integers = make_transform(_A.T, scaled=True)
_back_to_products = make_transform(_A)
_back_to_input = make_transform(_B)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`conv3x3` can do it and is quicker than PyTorch: float32 on a processor, many channels."""
    out, inputs, *kernel = weight.shape
    return (
        kernel == [3, 3]
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 4
        and x.shape[1] == inputs
        and min(out, inputs) >= FEWEST
        and inputs <= MOST
        and out % LANES == inputs % LANES == 0
        and x.shape[2] % TILE == x.shape[3] % TILE == 0
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def conv3x3(x: Tensor, weight: Tensor, factor: Tensor | None = None) -> Tensor:
    """Convolve (N, in, H, W) with filters (out, in, 3, 3), stride 1, padding 1; H and W are multiples of 4.

    With a ``factor`` (out,) all sums are known to be integers, are rounded to such, and multiplied by the factor of
    their filter. Gradients flow to all three, once.
    """
    output: Tensor = _Conv3x3.apply(x, weight, factor)
    return output


@final
class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, factor: Tensor | None) -> Tensor:
        out, _inputs = weight.shape[:2]
        filters = _filters(weight)
        ctx.save_for_backward(x, weight, factor)
        maps = _last(x)
        y = np.empty((*maps.shape[:3], out), np.float32)
        scales = None if factor is None else factor.detach().numpy()
        with _Team() as team:
            for images, v, m in _portions(maps, y, team.threads):
                team.run(_input, maps[images], v)
                torch.bmm(torch.from_numpy(v), filters, out=torch.from_numpy(m))
                if scales is None:
                    team.run(_output, m, y[images])
                else:
                    team.run(_integers, m, y[images], scales)
        return torch.from_numpy(y).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight, factor = ctx.saved_tensors
        out, inputs = weight.shape[:2]
        to_input, *to_others = ctx.needs_input_grad
        to_filters = any(to_others)
        filters = _filters(weight if factor is None else weight * factor.view(-1, 1, 1, 1)).mT
        maps, grads = _last(x), _last(grad)
        found, sums = np.empty(maps.shape, np.float32), torch.zeros(36, inputs, out)
        with _Team() as team:
            for images, v, m in _portions(maps, grads, team.threads):
                team.run(_output_back, grads[images], m)
                if to_filters:
                    team.run(_input, maps[images], v)
                    sums.baddbmm_(torch.from_numpy(v).mT, torch.from_numpy(m))
                if to_input:
                    torch.bmm(torch.from_numpy(m), filters, out=torch.from_numpy(v))
                    team.run(_input_back, v, found[images])
        x_grad = torch.from_numpy(found).permute(0, 3, 1, 2) if to_input else None
        if not to_filters:
            return x_grad, None, None
        bank = (_change().T @ sums.view(36, -1)).view(3, 3, inputs, out).permute(3, 2, 0, 1)
        if factor is None:
            return x_grad, bank, None
        # The gradient of a factor, the sum of grad times the sums of codes, is what the filter's own holds already.
        return x_grad, bank * factor.view(-1, 1, 1, 1), (bank * weight).sum((1, 2, 3))


def _filters(weight: Tensor) -> Tensor:
    """U = G g G^T of all filters (out, in, 3, 3), as 36 matrices (in, out)."""
    out, inputs = weight.shape[:2]
    return (_change() @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, inputs, out)


def _change() -> Tensor:
    """G g G^T as a product with g, read row by row: the Kronecker product of G with itself, (36, 9)."""
    return torch.from_numpy(np.kron(_G, _G)).float()


def _last(x: Tensor) -> Maps:
    """Maps with the channels last, as an array; no copy where they lie so already."""
    array: Maps = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return array


def _portions(x: Maps, y: Maps, threads: int) -> Iterator[tuple[slice, Maps, Maps]]:
    """Images that are worked on at once, and room for the 36 products of their tiles: V (36, tiles, in), M (.., out).

    The room is the same for all portions: fresh memory is slow.
    """
    each = x.shape[1] * x.shape[2] // TILE**2
    step = max(1, AT_ONCE * threads // each)
    rooms = [np.empty(36 * min(step, len(x)) * each * maps.shape[3], np.float32) for maps in (x, y)]
    for start in range(0, len(x), step):
        images = slice(start, min(start + step, len(x)))
        tiles = (images.stop - start) * each
        v, m = (
            room[: 36 * tiles * maps.shape[3]].reshape(36, tiles, -1) for room, maps in zip(rooms, (x, y), strict=True)
        )
        yield images, v, m


@final
class _Team:
    """Threads that share the images of a transform; they sleep while they wait, unlike those of OpenMP."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()

    def __enter__(self) -> "_Team":
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        return self

    def __exit__(self, *reason: object) -> None:
        if self.pool is not None:
            self.pool.shutdown()

    def run(self, transform: Any, source: Maps, target: Maps, *more: Maps) -> None:
        """Call ``transform(source, target, *more, first, last)`` for parts of the images; one of the two holds them."""
        images = len(source if source.ndim == 4 else target)
        if self.pool is None:
            transform(source, target, *more, 0, images)
            return
        ends = [images * part // self.threads for part in range(self.threads + 1)]
        part = partial(transform, source, target, *more)
        for done in [self.pool.submit(part, start, end) for start, end in pairwise(ends)]:
            done.result()


@njit(cache=True)
def _edges(tile: int, size: int) -> tuple[int, int]:
    """The places, from first to before last, of the 6 of an input's tile that lie inside of the map."""
    return (1 if tile == 0 else 0), (5 if (tile + 1) * 4 == size else 6)


@njit(cache=True, nogil=True)
def _input(x: Any, v: Any, first: int, last: int) -> None:
    """V = B^T d B of the tiles of some images."""
    n, height, width, c = x.shape
    rows, columns, source, target = height // 4, width // 4, x.reshape(-1), v.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    for line in range(first * rows, last * rows):
        top, bottom = _edges(line % rows, height)
        start = (line // rows * height + line % rows * 4 - 1) * width - 1
        tile = np.zeros(36 * c, np.float32)
        for column in range(columns):
            left, right = _edges(column, width)
            for i in range(top, bottom):
                place = start + i * width + column * 4
                tile[(i * 6 + left) * c : (i * 6 + right) * c] = source[(place + left) * c : (place + right) * c]
                tile[(i * 6 + right) * c : (i * 6 + 6) * c] = 0
            _to_products(tile, 0, 6 * c, c, target, (line * columns + column) * c, 6 * apart, apart, channels)


@njit(cache=True, nogil=True)
def _output(m: Any, y: Any, first: int, last: int) -> None:
    """y = A^T M A of the tiles of some images."""
    n, height, width, c = y.shape
    rows, columns, source, target = height // 4, width // 4, m.reshape(-1), y.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    for line in range(first * rows, last * rows):
        for column in range(columns):
            place = (line * columns + column) * c
            to = (line * 4 * width + column * 4) * c
            _from_products(source, place, 6 * apart, apart, target, to, width * c, c, channels)


@njit(cache=True, nogil=True)
def _integers(m: Any, y: Any, factors: Any, first: int, last: int) -> None:
    """y = A^T M A of the tiles of some images, rounded to integers and scaled."""
    n, height, width, c = y.shape
    rows, columns, source, target = height // 4, width // 4, m.reshape(-1), y.reshape(-1)
    apart = n * rows * columns * c
    for line in range(first * rows, last * rows):
        for column in range(columns):
            place = (line * columns + column) * c
            to = (line * 4 * width + column * 4) * c
            _from_integers(source, place, 6 * apart, apart, target, to, width * c, c, factors)


@njit(cache=True, nogil=True)
def _output_back(grad: Any, m: Any, first: int, last: int) -> None:
    """The gradients of M, A grad A^T, of the tiles of some images."""
    n, height, width, c = grad.shape
    rows, columns, source, target = height // 4, width // 4, grad.reshape(-1), m.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    for line in range(first * rows, last * rows):
        for column in range(columns):
            place = (line * 4 * width + column * 4) * c
            to = (line * columns + column) * c
            _back_to_products(source, place, width * c, c, target, to, 6 * apart, apart, channels)


@njit(cache=True, nogil=True)
def _input_back(v: Any, grad: Any, first: int, last: int) -> None:
    """The gradients of some images: B V B^T of their tiles, added where tiles overlap."""
    n, height, width, c = grad.shape
    rows, columns, source, target = height // 4, width // 4, v.reshape(-1), grad.reshape(-1)
    apart, channels = n * rows * columns * c, np.empty(c, np.float32)
    target[first * height * width * c : last * height * width * c] = 0
    tile = np.empty(36 * c, np.float32)
    for line in range(first * rows, last * rows):
        top, bottom = _edges(line % rows, height)
        start = (line // rows * height + line % rows * 4 - 1) * width - 1
        for column in range(columns):
            left, right = _edges(column, width)
            place = (line * columns + column) * c
            _back_to_input(source, place, 6 * apart, apart, tile, 0, 6 * c, c, channels)
            for i in range(top, bottom):
                to, begin = (start + i * width + column * 4) * c, i * 6 * c
                for k in range(left * c, right * c):
                    target[to + k] += tile[begin + k]
