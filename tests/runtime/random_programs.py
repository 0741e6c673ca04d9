"""Programs drawn at random: small maps, any layer after any other."""

from math import prod
from random import Random
from typing import final

import numpy as np

from binarch.deploy import Builder
from binarch.runtime import Program
from binarch.runtime.ops import (
    LARGEST_REAL,
    Add,
    Affine,
    BitConv,
    Clip,
    Concat,
    Conv,
    Flatten,
    Image,
    Mean,
    Op,
    Pool,
    PRelu,
    Quantize,
    Shape,
    Shuffle,
    Window,
    Zeros,
)

#: What codes may stand for, by number of levels.
VALUES: dict[int, list[tuple[int, ...]]] = {
    2: [(-1, 1), (1, -1), (0, 1), (3, -2), (0, 0)],
    3: [(-1, 0, 1), (0, 1, 2)],
    4: [(0, 1, 2, 3), (0, 1, 0, 1), (-3, -1, 1, 3)],
    8: [tuple(range(8)), tuple(range(-7, 8, 2))],
    16: [tuple(range(16)), tuple(range(-15, 16, 2))],
}
SIGNS: tuple[int, ...] = (-1, 1)
WEIGHT_VALUES: list[tuple[int, ...]] = [
    SIGNS,
    SIGNS,
    (1, -1),
    (0, 1),
    (-1, 0, 0, 1),
    (0, 1, -1, 0),
    (-3, -1, 1, 3),
    (2, -2, 1, 1),
]

#: Kinds of instructions by their numbers in :meth:`Sketch.grow`.
ALL, CHAIN = range(16), range(11)


def planes(images: np.ndarray) -> np.ndarray:
    """Pixels (N, height, width, channels) as the reference wants them: (N, channels, height, width), 0..1."""
    return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def some_images(program: Program, count: int, seed: int = 0) -> np.ndarray:
    """Random pixels of the program's size."""
    image = program.image
    shape = (count, image.height, image.width, image.channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@final
class Sketch:
    """A program that is drawn instruction by instruction, and every number in it too."""

    def __init__(self, chance: Random, image: Shape | None = None) -> None:
        self.chance = chance
        self.draw = np.random.default_rng(chance.getrandbits(32))
        self.builder = Builder()
        self.codes: dict[int, list[int]] = {}
        image = image or Shape(chance.randint(1, 6), chance.randint(1, 9), chance.randint(1, 9))
        mean, std = np.zeros(image.channels), 2.0 ** self.draw.integers(-2, 2, image.channels)
        self.values = [self.builder.add(Image(*image.dims, self.builder.reals(mean), self.builder.reals(std)))]

    def add(self, op: Op) -> int:
        """Append an instruction that yields real numbers."""
        self.values.append(self.builder.add(op))
        return self.values[-1]

    def shape(self, x: int) -> Shape:
        """The shape of a value."""
        return self.builder.shapes[x]

    def pick(self) -> int:
        """A value: the newest one half of the time, so that chains get long."""
        return self.chance.choice([self.values[-1], self.chance.choice(self.values)])

    def numbers(self, count: int) -> int:
        """Trained numbers: small, of both signs, often whole, sometimes zero."""
        chosen = self.draw.choice([0, 1, -1, 0.5, 2], count)
        return self.builder.reals(np.where(self.draw.random(count) < 0.5, chosen, self.draw.normal(0, 1, count)))

    def window(self, size: tuple[int, int], *, same: bool, most: int = 7, dilated: bool = True) -> Window:
        """A window on a map of ``size``: one that keeps the size, or one with any stride, origin and size."""
        axes = []
        for length in size:
            kernel = self.chance.choice([k for k in (1, 1, 2, 3, 3, 4, 5, 6, 7) if k <= most])
            dilation = self.chance.choice([1, 1, 2, 3]) if dilated else 1
            reach = dilation * (kernel - 1)
            if same:
                axes.append((kernel, 1, dilation, -(reach // 2), length))
                continue
            stride, padding = self.chance.choice([1, 2, 2, 3]), self.chance.randint(0, reach)
            out = max(1, (length + 2 * padding - reach - 1) // stride + 1)
            if dilated and self.chance.random() < 0.2:
                padding, out = self.chance.randint(-8, 12), self.chance.randint(1, 9)
            axes.append((kernel, stride, dilation, -padding, out))
        (kh, sh, dh, oh, h), (kw, sw, dw, ow, w) = axes
        return Window((kh, kw), (sh, sw), (dh, dw), (oh, ow), (h, w))

    def quantize(self, x: int, levels: int) -> int:
        """Codes of value ``x``, with thresholds of both directions, infinite ones among them."""
        channels = self.shape(x).channels
        chosen = self.draw.choice([0, 0.2, 0.4, 1, -1, 5, -np.inf, np.inf], (channels, levels - 1))
        thresholds = np.where(self.draw.random(chosen.shape) < 0.5, chosen, self.draw.normal(0.5, 1, chosen.shape))
        flip = self.builder.bits(self.draw.integers(0, 2, channels)) if self.chance.random() < 0.5 else -1
        return self.builder.add(Quantize(x, levels, self.builder.reals(np.sort(thresholds, 1)), flip))

    def bitconv(
        self, x: int, window: Window, groups: int, out: int, *, scaled: bool = True, signs: bool = False
    ) -> int:
        """A convolution of codes of value ``x``; now and then of codes that another one reads already."""
        known = self.codes.setdefault(x, [])
        if signs:
            codes, weight_values, values = self.quantize(x, 2), SIGNS, SIGNS
        else:
            if not known or self.chance.random() < 0.5:
                known.append(self.quantize(x, self.chance.choice([2, 2, 3, 4, 8, 16])))
            codes, weight_values = self.chance.choice(known), self.chance.choice(WEIGHT_VALUES)
            values = self.chance.choice(VALUES[self.shape(codes).levels])
        count = out * (self.shape(x).channels // groups) * prod(window.kernel)
        weight = self.builder.bits(self.draw.integers(0, len(weight_values), count), len(weight_values) // 2)
        scale = self.numbers(out) if scaled else self.builder.reals(np.ones(out))
        return self.add(BitConv(codes, window, out, groups, weight, weight_values, values, scale))

    def conv(self, x: int, window: Window, groups: int, out: int) -> int:
        """A convolution of real numbers, with real weights or packed ones."""
        bits = self.chance.choice([1, 2, 32])
        count = out * (self.shape(x).channels // groups) * prod(window.kernel)
        if bits == 32:  # few digits, so that sums in double are exact, whatever their order
            weight = self.builder.reals(self.draw.integers(-64, 65, count) / 64)
        else:
            weight = self.builder.bits(self.draw.integers(0, 1 << bits, count), bits)
        levels = 0 if bits == 32 else self.builder.reals(np.array([-1, 0.5, 0.25, 2])[: 1 << bits])
        bias = self.numbers(out) if self.chance.random() < 0.5 else -1
        return self.add(Conv(x, window, out, groups, weight, bits, levels, bias))

    def grow(self, kinds: range = ALL) -> None:
        """Append one instruction of a random kind."""
        x = self.pick()
        shape = self.shape(x)
        channels, size = shape.channels, shape.dims[1:]
        same = self.chance.random() < 0.6
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        match self.chance.choice(kinds):
            case 0 | 1 | 2 | 3:
                groups = self.chance.choice([1, *divisors])
                out = channels if same else groups * self.chance.randint(1, max(1, 12 // groups))
                window = self.window(size, same=same, most=1 if size == (1, 1) and same else 7)
                self.bitconv(x, window, groups, out, signs=self.chance.random() < 0.5)
            case 4 | 5:
                self.add(PRelu(x, self.numbers(channels)))
            case 6 | 7:
                self.add(Shuffle(x, self.chance.choice(divisors)))
            case 8 | 9:
                self.add(Add(*self.chance.sample([x, self.chance.choice(self._like(shape.dims))], 2)))
            case 10:
                parts = self.chance.choices(self._like((None, *size)), k=self.chance.randint(1, 3))
                if sum(self.shape(part).channels for part in parts) <= 24:
                    self.add(Concat(tuple(parts)))
            case 11:
                groups = self.chance.choice(divisors)
                self.conv(x, self.window(size, same=same), groups, groups * self.chance.randint(1, max(1, 8 // groups)))
            case 12:
                self.add(Affine(x, self.numbers(channels), self.numbers(channels)))
            case 13:
                low = self.chance.choice([-1.0, 0.0, -LARGEST_REAL])
                self.add(Clip(x, low, self.chance.choice([1.0, 0.7, LARGEST_REAL])))
            case 14:
                self._pool(x)
            case _:
                zeros = Zeros(self.chance.randint(1, 4), *size)
                few = [Flatten(x)] if prod(shape.dims) <= 80 else []
                self.add(self.chance.choice([Mean(x), zeros, *few]))

    def _like(self, dims: tuple[int | None, int, int]) -> list[int]:
        """Values of these dimensions (None: any number of channels)."""
        return [
            value
            for value in self.values
            if all(n in (None, m) for n, m in zip(dims, self.shape(value).dims, strict=True))
        ]

    def _pool(self, x: int) -> None:
        kind = self.chance.choice(["max", "mean", "mean_padded"])
        size = self.shape(x).height, self.shape(x).width
        window = self.window(size, same=self.chance.random() < 0.5, most=min(*size, 4), dilated=False)
        last = [(n - 1) * s + o for n, s, o in zip(window.size, window.stride, window.origin, strict=True)]
        if all(place < length for place, length in zip(last, size, strict=True)):
            self.add(Pool(x, kind, window))

    def program(self, *, flatten: bool = True) -> Program:
        """The finished program; the numbers of every value that nothing reads are the logits."""
        read = {x for op in self.builder.ops for x in op.inputs}
        ends = [value for value in self.values if value not in read]
        if flatten or any(self.shape(value).dims[1:] != (1, 1) for value in ends):
            ends = [self.builder.add(Flatten(value)) for value in ends]
        if len(ends) > 1:
            self.builder.add(Concat(tuple(ends)))
        classes = self.builder.shapes[-1].channels
        return self.builder.program({"classes": [str(k) for k in range(classes)]})


def random_convolution(chance: Random, *, scaled: bool = True) -> Program:
    """Image, codes, one binary convolution, all of its outputs as logits."""
    groups = chance.choice([1, 1, 2, 3, 4])
    image = Shape(groups * chance.choice([1, 2, 3, 4, 5, 8, 9, 12]), chance.randint(1, 13), chance.randint(1, 13))
    sketch = Sketch(chance, image)
    window = sketch.window(image.dims[1:], same=chance.random() < 0.4)
    sketch.bitconv(0, window, groups, groups * chance.randint(1, 7), scaled=scaled)
    return sketch.program()


def random_linear(chance: Random) -> Program:
    """A fully connected binary layer, on up to 200 inputs."""
    sketch = Sketch(chance, Shape(chance.randint(1, 200), 1, 1))
    origin = chance.choice([0, 0, 0, 1])
    window = Window((1, 1), (1, 1), (1, 1), (0, origin), (1, 1))
    sketch.bitconv(0, window, 1, chance.randint(1, 9), signs=chance.random() < 0.7)
    return sketch.program(flatten=chance.random() < 0.5)


def random_chain(chance: Random) -> Program:
    """Binary convolutions, and what may be computed along with them: PReLU, shuffle, sums, concatenations."""
    size = chance.choice([(1, 1), (chance.randint(1, 9), chance.randint(1, 9))])
    sketch = Sketch(chance, Shape(chance.choice([4, 6, 8, 12]), *size))
    for _ in range(chance.randint(2, 16)):
        sketch.grow(CHAIN)
    return sketch.program(flatten=chance.random() < 0.5)


def random_graph(chance: Random) -> Program:
    """Up to twenty-odd instructions in any order."""
    sketch = Sketch(chance)
    for _ in range(chance.randint(1, 22)):
        sketch.grow()
    return sketch.program(flatten=chance.random() < 0.8)


def every_layer() -> Program:
    """A network of ten classes with every instruction in it, whose logits differ from image to image."""
    sketch = Sketch(Random(0), Shape(3, 8, 9))
    draw, builder, add = sketch.draw, sketch.builder, sketch.add

    def normal(*shape: int) -> int:
        return builder.reals(draw.normal(0, 0.5, shape))

    def bits(count: int, width: int = 1) -> int:
        return builder.bits(draw.integers(0, 1 << width, count), width)

    def window(kernel: int, stride: int, dilation: int, *size: int) -> Window:
        origin = -dilation * (kernel // 2)
        return Window((kernel, kernel), (stride, stride), (dilation, dilation), (origin, origin), (size[0], size[1]))

    pixel = window(1, 1, 1, 1, 1)
    x = add(Conv(0, window(3, 1, 1, 8, 9), 12, 1, normal(12, 27), 32, 0, normal(12)))
    x = add(Clip(add(Affine(x, normal(12), normal(12))), -0.5, 0.75))
    signs = builder.add(Quantize(x, 2, normal(12), bits(12)))
    grouped = add(BitConv(signs, window(3, 1, 2, 8, 9), 12, 3, bits(12 * 36), (-1, 1), (-1, 1), normal(12)))
    x = add(Add(x, add(Shuffle(add(PRelu(grouped, normal(12))), 4))))
    codes = builder.add(Quantize(x, 4, builder.reals(np.sort(draw.normal(0, 1, (12, 3)), 1)), -1))
    halved = window(3, 2, 1, 4, 5)
    ternary = add(BitConv(codes, halved, 10, 2, bits(10 * 54, 2), (-1, 0, 0, 1), (0, 1, 2, 3), normal(10)))
    pooled = [add(Pool(x, kind, halved)) for kind in ("max", "mean", "mean_padded")]
    x = add(Concat((ternary, *pooled, add(Zeros(2, 4, 5)), ternary)))
    signs = builder.add(Quantize(add(Mean(x)), 2, normal(58), bits(58)))
    linear = add(BitConv(signs, pixel, 10, 1, bits(580), (-1, 1), (-1, 1), normal(10)))
    flat = add(Flatten(x))
    packed = add(Conv(flat, pixel, 10, 2, bits(5 * 1160, 2), 2, normal(4), -1))
    add(Add(linear, packed))
    return builder.program({"classes": [f"class {k}" for k in range(10)], "about": "every instruction"})


def with_idle(program: Program, chance: Random) -> Program:
    """The same with instructions that nothing reads."""
    idle = chance.choices(program.ops[1:-1], k=3) if len(program.ops) > 2 else []
    return Program((*program.ops[:-1], *idle, program.ops[-1]), program.bits, program.reals, program.card)
