"""Published cells as data, in the convention of DARTS: source 0 is c_{k-2}, source 1 is c_{k-1}.

NASNet and AmoebaNet are the transcriptions that the DARTS code trains; they differ from the cells of their own
papers (fewer states in ``concat``, input order, the 7x1-1x7 block), whose networks are ``nasnet-a`` and ``amoebanet-a``
of the catalogue. The P-DARTS cell is the released one, from
another run than the paper's figure. ``bats-16px`` is our own.
"""

from dataclasses import dataclass

from binarch.errors import choose
from binarch.spaces.genotype import Cell, Edge, Genotype

_SHORT = {
    "none": "none",
    "max3": "max_pool_3x3",
    "avg3": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "7x1": "conv_7x1_1x7",
}


@dataclass(frozen=True)
class Published:
    """A genotype with the paper it comes from."""

    genotype: Genotype
    description: str


def read_cell(text: str, concat: tuple[int, ...]) -> Cell:
    """Read nodes from ``"sep3:1 sep3:0, skip:0 sep3:1"``: two ``primitive:source`` per node."""
    nodes = []
    for node in text.split(","):
        first, second = (Edge(_SHORT[op], int(source)) for op, _, source in (e.partition(":") for e in node.split()))
        nodes.append((first, second))
    return Cell(tuple(nodes), concat)


_FOUR = (2, 3, 4, 5)

PUBLISHED: dict[str, Published] = {
    "darts-v1": Published(
        Genotype(
            read_cell("sep3:1 sep3:0, skip:0 sep3:1, skip:0 sep3:1, sep3:0 skip:2", _FOUR),
            read_cell("max3:0 max3:1, skip:2 max3:0, max3:0 skip:2, skip:2 avg3:0", _FOUR),
        ),
        "DARTS, first order (Liu et al., ICLR 2019)",
    ),
    "darts-v2": Published(
        Genotype(
            read_cell("sep3:0 sep3:1, sep3:0 sep3:1, sep3:1 skip:0, skip:0 dil3:2", _FOUR),
            read_cell("max3:0 max3:1, skip:2 max3:1, max3:0 skip:2, skip:2 max3:1", _FOUR),
        ),
        "DARTS, second order (Liu et al., ICLR 2019)",
    ),
    "pdarts": Published(
        Genotype(
            read_cell("skip:0 dil3:1, skip:0 sep3:1, sep3:1 sep3:3, sep3:0 dil5:4", _FOUR),
            read_cell("avg3:0 sep5:1, sep3:0 dil5:2, max3:0 dil3:1, dil3:1 dil5:3", _FOUR),
        ),
        "P-DARTS on CIFAR-10, the released cell (Chen et al., ICCV 2019)",
    ),
    "pc-darts": Published(
        Genotype(
            read_cell("sep3:1 skip:0, sep3:0 dil3:1, sep5:0 sep3:1, avg3:0 dil3:1", _FOUR),
            read_cell("sep5:1 max3:0, sep5:1 sep5:2, sep3:0 sep3:3, sep3:1 sep3:2", _FOUR),
        ),
        "PC-DARTS on CIFAR-10 (Xu et al., ICLR 2020)",
    ),
    "nasnet": Published(
        Genotype(
            read_cell("sep5:1 sep3:0, sep5:0 sep3:0, avg3:1 skip:0, avg3:0 avg3:0, sep3:1 skip:1", (2, 3, 4, 5, 6)),
            read_cell("sep5:1 sep7:0, max3:1 sep7:0, avg3:1 sep5:0, skip:3 avg3:2, sep3:2 max3:1", (4, 5, 6)),
        ),
        "NASNet-A as DARTS transcribes it (Zoph et al., CVPR 2018)",
    ),
    "amoebanet": Published(
        Genotype(
            read_cell("avg3:0 max3:1, sep3:0 sep5:2, sep3:0 avg3:3, sep3:1 skip:1, skip:0 avg3:1", (4, 5, 6)),
            read_cell("avg3:0 sep3:1, max3:0 sep7:2, sep7:0 avg3:1, max3:0 max3:1, 7x1:0 sep3:5", (3, 4, 6)),
        ),
        "AmoebaNet-A as DARTS transcribes it (Real et al., AAAI 2019)",
    ),
    "bats-16px": Published(
        Genotype(
            read_cell("dil5:0 sep5:1, max3:1 dil5:2, sep5:0 max3:1, max3:1 max3:4", _FOUR),
            read_cell("dil3:0 dil5:1, dil5:1 sep5:2, skip:0 dil5:1, max3:3 max3:4", _FOUR),
        ),
        "found here by BATS on two cores (results/cifar10-cpu); the paper's own cell is not public",
    ),
}


def published(name: str) -> Genotype:
    """The published genotype called ``name``; an unknown name is a :class:`~binarch.errors.UserError`."""
    return PUBLISHED[choose("arch", name, PUBLISHED)].genotype
