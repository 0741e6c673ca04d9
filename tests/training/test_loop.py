"""Interrupted equals uninterrupted, whatever interrupts and wherever."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from binarch.runs import RunFolder
from binarch.training import Display, Interrupted, Loop, Task
from binarch.training import loop as loop_module


class Walk(Task):
    """A random walk with momentum: its end depends on every step and on the global generator."""

    epochs, steps, batch_size = 3, 4, 2

    def __init__(self, stage: int, carried: Any, moments: list[str]) -> None:
        self.title = f"walk {stage}"
        self.place = torch.zeros(3) if carried is None else carried["place"] * 2
        self.speed = torch.zeros(3)
        self.moments = moments

    def step(self, epoch: int, step: int) -> Tensor:
        self.speed = 0.9 * self.speed + torch.randn(3)
        match self.moments.pop(0) if self.moments else "":
            case "kill":
                raise KeyError("killed before the step is done")
            case "ctrl-c":
                signal.raise_signal(signal.SIGINT)
        self.place = self.place + self.speed
        return torch.stack([self.place.sum(), torch.tensor(1.0), torch.tensor(2.0)])

    def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
        return {"epoch": epoch, "sum": sums[0]}

    def state(self) -> dict[str, Any]:
        return {"place": self.place, "speed": self.speed}

    def load_state(self, state: dict[str, Any]) -> None:
        self.place, self.speed = state["place"], state["speed"]

    def carry(self) -> Any:
        return {"place": self.place}


def run(folder: Path, moments: list[str]) -> tuple[Tensor, list[dict[str, Any]]]:
    """Run to the end, starting again whenever the run stops."""
    display = Display(console=Console(quiet=True))
    for _ in range(100):
        stages = [lambda carried, s=stage: Walk(s, carried, moments) for stage in range(2)]
        try:
            task = Loop(RunFolder(folder), display, 5, stages).run()
        except (KeyError, Interrupted):
            continue
        assert isinstance(task, Walk)
        rows = RunFolder(folder).metrics()
        return task.place, [{key: row[key] for key in ("epoch", "sum")} for row in rows]
    raise AssertionError("never ended")


@pytest.mark.parametrize("how", ["kill", "ctrl-c"])
@pytest.mark.parametrize("at", range(0, 24, 3))
def test_one_stop_anywhere(how: str, at: int, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", [])
    stopped = run(tmp_path / "stopped", [""] * at + [how])
    assert torch.equal(stopped[0], whole[0])
    assert stopped[1] == whole[1]
    assert len(whole[1]) == 6


def test_stops_at_every_step_with_checkpoints_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", [])
    monkeypatch.setattr(loop_module, "CHECKPOINT_SECONDS", -1.0)
    stopped = run(tmp_path / "stopped", ["", "kill", "kill", "", "ctrl-c", "ctrl-c"] * 6)
    assert torch.equal(stopped[0], whole[0])
    assert stopped[1] == whole[1]


def test_ctrl_c_saves_the_step_that_was_running(tmp_path: Path) -> None:
    stages = [lambda carried: Walk(0, carried, ["", "ctrl-c"])]
    with pytest.raises(Interrupted):
        Loop(RunFolder(tmp_path), Display(console=Console(quiet=True)), 5, stages).run()
    saved = RunFolder(tmp_path).load_checkpoint()
    assert saved is not None
    assert (saved["position"]["epoch"], saved["position"]["step"]) == (0, 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_at_the_end_of_an_epoch_is_heard(tmp_path: Path) -> None:
    class Late(Walk):
        def epoch_end(self, epoch: int, sums: list[float]) -> dict[str, Any]:
            signal.raise_signal(signal.SIGINT)
            return super().epoch_end(epoch, sums)

    with pytest.raises(Interrupted):
        Loop(RunFolder(tmp_path), Display(console=Console(quiet=True)), 5, [lambda _: Late(0, None, [])]).run()
    assert len(RunFolder(tmp_path).metrics()) == 1
