"""The processes that share one run: several under torchrun, each with a device of its own, or one alone."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar, final

import torch
from torch import Tensor, distributed

from binarch.errors import UserError

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Ranks:
    r"""This process among the ``world`` processes of a run; ``rank`` 0 is the first, ``local`` counts on one machine.

    Every rank computes the gradient :math:`g_r` of the mean loss over its part, :math:`n_r` images, of a batch of n.
    The gradient of the whole batch is :math:`g = \sum_r \tfrac{n_r}{n} g_r` (:meth:`sum` with the :meth:`share` as
    weight): one all-reduce of one flat tensor, after which every rank holds the same bits and takes the same step.

    Lightning Fabric gives a rank its device and precision; what passes between ranks is told to ``torch.distributed``
    directly. Fabric's way, DistributedDataParallel, fixes which parameters have gradients when it is set up, and knows
    ``backward`` only: a supernet's weights and alphas take turns, and the second order asks ``autograd.grad``.

    All methods but :meth:`part` and :meth:`share` must be called by all ranks in the same order. Alone they return at
    once what they were given.
    """

    world: int = 1
    rank: int = 0
    local: int = 0
    parent: int = field(default=0, compare=False)
    """The process that started it, torchrun; 0 for one alone, which may outlive its shell."""

    @staticmethod
    def started() -> "Ranks":
        """What torchrun wrote into the environment; one process where it wrote nothing."""
        names = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0}
        found = Ranks(*(int(os.environ.get(name, fallback)) for name, fallback in names.items()))
        if found.world == 1:  # batch systems set RANK for purposes of their own
            return ALONE
        if not 0 <= found.rank < found.world:
            raise UserError(f"RANK: {found.rank} is not possible with WORLD_SIZE={found.world}; start it with torchrun")
        return replace(found, parent=os.getppid())

    @contextmanager
    def joined(self) -> Iterator["Ranks"]:
        """Within, ranks can talk: gloo between CPUs, NCCL between GPUs.

        After an error nobody is waited for: torchrun sees the exit code and ends the other ranks.
        """
        if self.world == 1:
            yield self
            return
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        yield self
        distributed.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes, prints and draws."""
        return self.rank == 0

    @property
    def orphaned(self) -> bool:
        """Whether torchrun is gone, killed: its ranks would go on unseen, beside those that continue the run."""
        return self.parent > 0 and os.getppid() != self.parent

    def part(self, batch: Tensor) -> Tensor:
        """This rank's slice of a batch: from row r n / W to row (r + 1) n / W, rounded down."""
        size = len(batch)
        return batch if self.world == 1 else batch[self.rank * size // self.world : self._end(size)]

    def share(self, size: int) -> float:
        """The length of this rank's slice over ``size``, the length of the batch."""
        return (self._end(size) - self.rank * size // self.world) / size

    def check_batch(self, size: int) -> None:
        """Refuse batches of which a rank would get fewer than two images: a batch norm needs two."""
        if self.world > 1 and size < 2 * self.world:
            raise UserError(
                f"batch_size: {size} images are too few for {self.world} ranks; every rank needs 2, so give "
                f"{2 * self.world} or more (and as many images), or start fewer ranks"
            )

    def check_data(self, batch_size: int, pixels: Tensor, labels: Tensor) -> None:
        """Refuse batches that are too small, and images that are not the same on all ranks."""
        self.check_batch(min(batch_size, len(labels)))
        if not self.agree([pixels, labels]):
            raise UserError("data: the ranks have different images; give all of them the same --dataset or --data")

    def sum(self, tensors: Sequence[Tensor], weight: float = 1.0) -> list[Tensor]:
        """The sum over ranks of each tensor times the rank's ``weight``; no gradient passes."""
        if self.world == 1:
            return list(tensors)
        if not tensors:
            return []
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) * weight
        distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor], weight: float = 1.0) -> None:
        """:meth:`sum`, in place."""
        if self.world > 1:
            for tensor, total in zip(tensors, self.sum(tensors, weight), strict=True):
                tensor.copy_(total)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether some rank raised it."""
        if self.world == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return tuple(flag > 0 for flag in raised.tolist())

    def wait(self) -> None:
        """Go on when all ranks are here."""
        self.any(False)

    def told(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns on the first rank, or the :class:`UserError` that it raises there; only it asks."""
        if self.world == 1:
            return ask()
        answer, complaint = None, None
        if self.first:
            try:
                answer = ask()
            except UserError as error:
                complaint = str(error)
        said: list = [answer, complaint]
        distributed.broadcast_object_list(said, 0, device=torch.device("cpu"))
        if said[1] is not None:
            raise UserError(said[1])
        return said[0]

    def agree(self, tensors: Iterable[Tensor]) -> bool:
        """Whether all ranks hold the same bits."""
        if self.world == 1:
            return True
        digest = hashlib.blake2b()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        mine = digest.hexdigest()
        return not self.any(self.told(lambda: mine) != mine)[0]

    def _end(self, size: int) -> int:
        return (self.rank + 1) * size // self.world


#: One process.
ALONE = Ranks()
