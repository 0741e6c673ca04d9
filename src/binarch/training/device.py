"""Where and in which precision a run computes: Lightning Fabric for the one device of a process."""

from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.nn import tune_
from binarch.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "32", "bf16", "fp16"]
_FABRIC: Final = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(device: Device, precision: Precision, ranks: Ranks = ALONE) -> "Fabric":
    """One device, ready; of several ranks on one machine each takes the GPU of its local number.

    ``auto`` takes the GPU where there is one. In ``auto`` precision a GPU computes in bfloat16 with float32 weights,
    a CPU in float32 (bfloat16 pays only on processors with AVX512-BF16 or AMX: ask for it there). bfloat16 holds
    integers exactly up to 256 only, so larger sums of +-1 are rounded in training, by 1 part in 256 at most; fp16 holds
    them up to 2048, and rounds all else to 1 part in 2048, but its gradients must be scaled (Fabric's scaler does) lest
    small ones vanish. Weights, optimizer, statistics and losses are float32 in both.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine or this build of torch has no GPU; use --device cpu or auto")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise UserError("--precision fp16: is for GPUs only; use --precision bf16 or 32")
    if precision == "auto":
        precision = "bf16" if accelerator == "cuda" else "32"
    devices: int | list[int] = 1
    if accelerator == "cuda" and ranks.world > 1:
        if ranks.local >= torch.cuda.device_count():
            raise UserError(
                f"--nproc-per-node: rank {ranks.rank} finds no GPU of its own, this machine has "
                f"{torch.cuda.device_count()}; start as many ranks, or give --device cpu"
            )
        devices = [ranks.local]
    from lightning_fabric import Fabric  # seconds, which verbs that train nothing need not wait for

    return Fabric(accelerator=accelerator, devices=devices, precision=_FABRIC[precision])  # type: ignore[arg-type]


def warning(precision: Precision, device: torch.device) -> str | None:
    """What to know before hours are spent: bfloat16 on a processor that computes it number by number."""
    if precision == "bf16" and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return (
            "--precision bf16: this processor has no products of bfloat16, and steps may take ten times as long; "
            "--precision 32 is quicker here."
        )
    return None


def suit_(network: nn.Module, fabric: "Fabric", x: Tensor) -> None:
    """Bring a network to the device; on a GPU its grouped convolutions take the form that is quicker for ``x``."""
    network.to(fabric.device)
    if fabric.device.type != "cuda":
        return

    def forward(twin: nn.Module) -> object:
        with fabric.autocast():
            return twin(x.contiguous(memory_format=torch.channels_last))

    tune_(network, forward)
