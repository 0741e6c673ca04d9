"""The instructions of a packed network: what each one means, takes, yields and refers to.

A program is a list of instructions; the i-th one defines value i. A value is a :class:`Shape`: a map of real numbers
(float32), or of codes (small integers from a quantizer). Trained numbers lie in two tensors of the file, ``bits``
(bytes) and ``reals`` (float32); instructions hold offsets into them.

Rounding is part of the meaning, so that a program gives the bits that the trained network gave: products and sums of
:class:`BitConv`, :class:`PRelu` and :class:`Add` are rounded to float32 one by one; :class:`Affine`, :class:`Conv` and
:class:`Mean` compute in double and round once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Any, ClassVar, final

from binarch.errors import UserError

#: Most numbers in one map; far above any network for pictures, low enough that a damaged file cannot exhaust memory.
LARGEST_MAP = 1 << 24
#: Most multiply-accumulates of one program and image: a hundred times those of a large network.
MOST_WORK = 1 << 36
#: The largest float32 number.
LARGEST_REAL = 3.4028234663852886e38


def refuse(reason: str) -> UserError:
    """An instruction that makes no sense."""
    return UserError(reason)


@final
@dataclass(frozen=True)
class Shape:
    """A value: channels x height x width numbers; real ones, or codes 0 .. levels - 1."""

    channels: int
    height: int
    width: int
    levels: int = 0

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1 or prod(self.dims) > LARGEST_MAP:
            raise refuse(f"a map of {self.channels} x {self.height} x {self.width} is not possible")

    @property
    def dims(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


@final
@dataclass(frozen=True)
class Window:
    """Which inputs an output pixel sees: tap i of output y reads input y s + i d + o, in rows and columns alike.

    s: ``stride``, d: ``dilation``, o: ``origin`` (minus the padding). What lies outside of the input adds nothing.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    origin: tuple[int, int]
    size: tuple[int, int]
    """Height and width of the output."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("kernel", 1, 64), ("stride", 1, 64), ("dilation", 1, 64), ("origin", -4096, 4096), ("size", 1, 4096)
        ):  # fmt: skip
            if not all(low <= n <= high for n in getattr(self, name)):
                raise refuse(f"{name}: {getattr(self, name)} is not possible; {low} to {high}")

    def taps(self) -> list[tuple[int, int]]:
        """Row and column offsets of the taps from the output's own place (times the stride), row by row."""
        (kh, kw), (dy, dx), (oy, ox) = self.kernel, self.dilation, self.origin
        return [(i * dy + oy, j * dx + ox) for i in range(kh) for j in range(kw)]


@dataclass(frozen=True)
class Op(ABC):
    """One instruction."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def inputs(self) -> tuple[int, ...]:
        """The values it reads."""

    @abstractmethod
    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The value it defines; a :class:`UserError` if the inputs do not fit."""

    def bits(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """What it reads from ``bits``: the field that holds the offset, and how many bytes."""
        return {}

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """What it reads from ``reals``: the field that holds the offset, and how many numbers."""
        return {}

    def work(self, inputs: Sequence[Shape]) -> int:
        """Multiply-accumulates, or something like them."""
        return prod(self.shape(inputs).dims)


@dataclass(frozen=True)
class Unary(Op):
    """An instruction with one input."""

    x: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """The one value."""
        return (self.x,)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """That of the input, which must be real."""
        return real(inputs[0])


def real(shape: Shape) -> Shape:
    """``shape``, if it is of real numbers."""
    if shape.levels:
        raise refuse("codes stand where real numbers must")
    return shape


@final
@dataclass(frozen=True)
class Image(Op):
    """The picture, normalised: (p - mean) / std per channel; p in 0..1 is pixel / 255 in float32."""

    name: ClassVar[str] = "image"
    channels: int
    height: int
    width: int
    mean: int
    std: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """None."""
        return ()

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Channels x height x width."""
        return Shape(self.channels, self.height, self.width)

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """Mean and std per channel."""
        return {"mean": self.channels, "std": self.channels}


def convolved(x: Shape, window: Window, out: int, groups: int) -> Shape:
    """The output of a convolution, or the reason why there is none."""
    if groups < 1 or x.channels % groups or out % groups:
        raise refuse(f"groups: {groups} does not divide {x.channels} and {out} channels")
    return Shape(out, *window.size)


@final
@dataclass(frozen=True)
class Conv(Unary):
    """y = conv(x, W) + b on real numbers, in double, rounded once.

    W is (out, in / groups, kh, kw): 32-bit numbers at ``reals[weight]``, or, where ``weight_bits`` is 1 or 2, packed
    codes at ``bits[weight]`` (row by row, lowest bit first) that pick one of ``2 ** weight_bits`` values at
    ``reals[levels]``. ``bias`` -1: none.
    """

    name: ClassVar[str] = "conv"
    window: Window
    out: int
    groups: int
    weight: int
    weight_bits: int
    levels: int
    bias: int

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """out x window.size."""
        if self.weight_bits not in (1, 2, 32):
            raise refuse(f"weight_bits: {self.weight_bits} is not possible; 1, 2 or 32")
        return convolved(real(inputs[0]), self.window, self.out, self.groups)

    def weights(self, inputs: Sequence[Shape]) -> int:
        """Their number."""
        return self.out * (inputs[0].channels // self.groups) * prod(self.window.kernel)

    def bits(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """Packed codes."""
        return {"weight": -(-self.weights(inputs) * self.weight_bits // 8)} if self.weight_bits < 32 else {}

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """Weights or their levels, and the bias."""
        real = self.weight_bits == 32
        needs = {"weight": self.weights(inputs)} if real else {"levels": 1 << self.weight_bits}
        return needs | ({"bias": self.out} if self.bias >= 0 else {})

    def work(self, inputs: Sequence[Shape]) -> int:
        """One per weight and output pixel, as if at stride 1: so the kernels compute it."""
        return self.weights(inputs) * prod(self.window.size) * prod(self.window.stride)


@final
@dataclass(frozen=True)
class Quantize(Unary):
    """Codes of real numbers: how many of the channel's thresholds t_1 <= ... <= t_{levels - 1} satisfy x >= t.

    Where the channel's bit at ``bits[flip]`` (lowest first) is set, the comparison points the other way: the code is
    levels - 1 less that number. ``flip`` -1: no bit is set. Thresholds may be infinite.
    """

    name: ClassVar[str] = "quantize"
    levels: int
    thresholds: int
    flip: int

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The input's, with ``levels`` codes."""
        if not 2 <= self.levels <= 16:
            raise refuse(f"levels: {self.levels} is not possible; 2 to 16")
        return Shape(*real(inputs[0]).dims, self.levels)

    def bits(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """One direction per channel."""
        return {"flip": -(-inputs[0].channels // 8)} if self.flip >= 0 else {}

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """levels - 1 thresholds per channel."""
        return {"thresholds": inputs[0].channels * (self.levels - 1)}


@final
@dataclass(frozen=True)
class BitConv(Unary):
    """y = scale * sum of w * a over integers: exact, then one rounding per product with ``reals[scale]``.

    A code c stands for the integer a = ``values[c]`` ([-1, 1] for signs); a weight's code stands for
    w = ``weight_values[code]``, 2 of them (1 bit) or 4 (2 bits), packed at ``bits[weight]`` as in :class:`Conv`.
    Inputs outside of the map add nothing, whatever their code would stand for.
    """

    name: ClassVar[str] = "bitconv"
    window: Window
    out: int
    groups: int
    weight: int
    weight_values: tuple[int, ...]
    values: tuple[int, ...]
    scale: int

    @property
    def weight_bits(self) -> int:
        """1 or 2."""
        return len(self.weight_values) // 2

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """out x window.size, real."""
        x = inputs[0]
        if not x.levels or len(self.values) != x.levels:
            raise refuse(f"values: {len(self.values)} for codes of {x.levels} levels")
        if len(self.weight_values) not in (2, 4) or any(abs(v) > 3 for v in self.weight_values):
            raise refuse("weight_values: 2 or 4 integers from -3 to 3 are needed")
        if any(abs(v) > 15 for v in self.values):
            raise refuse("values: integers from -15 to 15 are needed")
        shape = convolved(x, self.window, self.out, self.groups)
        terms = (x.channels // self.groups) * prod(self.window.kernel)
        largest = terms * max(map(abs, self.weight_values)) * max(map(abs, self.values))
        if largest > 32767:
            raise refuse(f"a sum of up to {largest} does not fit 16 bits")
        return shape

    def weights(self, inputs: Sequence[Shape]) -> int:
        """Their number."""
        return self.out * (inputs[0].channels // self.groups) * prod(self.window.kernel)

    def bits(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """Packed weights."""
        return {"weight": -(-self.weights(inputs) * self.weight_bits // 8)}

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """One scale per output channel."""
        return {"scale": self.out}

    def work(self, inputs: Sequence[Shape]) -> int:
        """One per weight and output pixel."""
        return self.weights(inputs) * prod(self.window.size)


@final
@dataclass(frozen=True)
class Affine(Unary):
    """y = x * scale + shift per channel, in double, rounded once: a batch norm in evaluation."""

    name: ClassVar[str] = "affine"
    scale: int
    shift: int

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """Two numbers per channel."""
        return {"scale": inputs[0].channels, "shift": inputs[0].channels}


@final
@dataclass(frozen=True)
class PRelu(Unary):
    """y = x where x > 0, else slope * x, per channel."""

    name: ClassVar[str] = "prelu"
    slope: int

    def reals(self, inputs: Sequence[Shape]) -> dict[str, int]:
        """One slope per channel."""
        return {"slope": inputs[0].channels}


@final
@dataclass(frozen=True)
class Clip(Unary):
    """y = min(max(x, low), high): ReLU, ReLU6, hard tanh."""

    name: ClassVar[str] = "clip"
    low: float
    high: float


@final
@dataclass(frozen=True)
class Shuffle(Unary):
    """Interleave ``groups`` blocks of channels: output i * groups + g is input g * C / groups + i."""

    name: ClassVar[str] = "shuffle"
    groups: int

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The input's."""
        if self.groups < 1 or inputs[0].channels % self.groups:
            raise refuse(f"groups: {self.groups} does not divide {inputs[0].channels} channels")
        return real(inputs[0])


@final
@dataclass(frozen=True)
class Add(Op):
    """x + y."""

    name: ClassVar[str] = "add"
    x: int
    y: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """Both."""
        return self.x, self.y

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Theirs; they must agree."""
        if real(inputs[0]) != real(inputs[1]):
            raise refuse(f"{inputs[0].dims} and {inputs[1].dims} cannot be added")
        return inputs[0]


@final
@dataclass(frozen=True)
class Concat(Op):
    """Maps of one size, channel after channel."""

    name: ClassVar[str] = "concat"
    xs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """All."""
        return self.xs

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The sum of the channels."""
        if not inputs or any(real(x).dims[1:] != inputs[0].dims[1:] for x in inputs):
            raise refuse("maps of different sizes cannot be concatenated")
        return Shape(sum(x.channels for x in inputs), *inputs[0].dims[1:])


@final
@dataclass(frozen=True)
class Pool(Unary):
    """The largest input of each window (``max``), or the mean of those inside the map (``mean``: summed row by row in
    float32, then divided), or the sum of those divided by kh * kw (``mean_padded``)."""

    name: ClassVar[str] = "pool"
    kind: str
    window: Window

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The input's channels at window.size."""
        x = real(inputs[0])
        if self.kind not in ("max", "mean", "mean_padded"):
            raise refuse(f"kind: {self.kind!r} is unknown; max, mean or mean_padded")
        for axis, length in enumerate(x.dims[1:]):
            kernel, stride = self.window.kernel[axis], self.window.stride[axis]
            first, reach = self.window.origin[axis], (kernel - 1) * self.window.dilation[axis]
            last = (self.window.size[axis] - 1) * stride + first
            if self.window.dilation[axis] != 1 or first + reach < 0 or first > 0 or last >= length:
                raise refuse("a pooling window holds no pixel")
        return Shape(x.channels, *self.window.size)

    def work(self, inputs: Sequence[Shape]) -> int:
        """One per tap and output."""
        return inputs[0].channels * prod(self.window.size) * prod(self.window.kernel)


@final
@dataclass(frozen=True)
class Mean(Unary):
    """The mean over all pixels, in double, rounded once: channels x 1 x 1."""

    name: ClassVar[str] = "mean"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Channels x 1 x 1."""
        return Shape(real(inputs[0]).channels, 1, 1)


@final
@dataclass(frozen=True)
class Flatten(Unary):
    """channels x height x width numbers, in this order, as channels of one pixel."""

    name: ClassVar[str] = "flatten"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """All numbers x 1 x 1."""
        return Shape(prod(real(inputs[0]).dims), 1, 1)


@final
@dataclass(frozen=True)
class Zeros(Op):
    """A map of zeros."""

    name: ClassVar[str] = "zeros"
    channels: int
    height: int
    width: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """None."""
        return ()

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """As stated."""
        return Shape(self.channels, self.height, self.width)


OPS: dict[str, type[Op]] = {
    op.name: op
    for op in (
        Image, Conv, Quantize, BitConv, Affine, PRelu, Clip, Shuffle, Add, Concat, Pool, Mean, Flatten, Zeros
    )
}  # fmt: skip


def to_plain(op: Op) -> list[Any]:
    """``[name, field, ...]`` with the fields in the order of the class; a window is a list of its five pairs."""
    plain: list[Any] = [op.name]
    for field in fields(op):
        value = getattr(op, field.name)
        if isinstance(value, Window):
            value = [list(getattr(value, f.name)) for f in fields(value)]
        plain.append(list(value) if isinstance(value, tuple) else value)
    return plain


def from_plain(plain: Any) -> Op:
    """The instruction of :func:`to_plain`; a :class:`UserError` if it is none."""
    if not isinstance(plain, list) or not plain or not isinstance(plain[0], str) or plain[0] not in OPS:
        raise refuse(f"{str(plain)[:60]} is no instruction")
    kind = OPS[plain[0]]
    known = fields(kind)
    if len(plain) != len(known) + 1:
        raise refuse(f"{kind.name}: {len(plain) - 1} fields, not {len(known)}")
    return kind(
        **{f.name: _field(f.type, value, f"{kind.name}.{f.name}") for f, value in zip(known, plain[1:], strict=True)}
    )


def _field(kind: Any, value: Any, where: str) -> Any:
    """``value`` as a field of type ``kind``."""
    if kind is int and type(value) is int and abs(value) < 1 << 40:
        return value
    if kind is float and type(value) in (int, float) and abs(value) <= LARGEST_REAL:
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is Window and isinstance(value, list) and len(value) == 5:
        return Window(*(_pair(pair, where) for pair in value))
    if kind == tuple[int, ...] and isinstance(value, list) and all(type(n) is int for n in value):
        return tuple(value)
    raise refuse(f"{where}: {str(value)[:60]} is not possible")


def _pair(value: Any, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int for n in value):
        raise refuse(f"{where}: {str(value)[:60]} is no pair of integers")
    return value[0], value[1]
