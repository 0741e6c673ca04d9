"""What a run shows while it works: a bar with rate and time left on a terminal, a line per epoch anywhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@final
class Display:
    """Prints to standard error (results go to standard output) and, where given, to the run's ``log.txt``.

    A ``silent`` one does neither: ranks other than the first have one.
    """

    def __init__(self, log: Path | None = None, console: Console | None = None, *, silent: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False) if console is None else console
        self.log, self.silent = log, silent

    def into(self, log: Path) -> "Display":
        """The same display, writing to another log."""
        return Display(log, self.console, silent=self.silent)

    def say(self, text: str) -> None:
        """Print one line and keep it."""
        if self.silent:
            return
        self.console.print(text, markup=False, soft_wrap=True)
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    @contextmanager
    def steps(self, title: str, total: int, done: int) -> Iterator["Bar"]:
        """A bar of ``total`` steps, ``done`` of which lie behind; nothing is drawn where there is no terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        hidden = self.silent or not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as progress:
            yield Bar(progress, progress.add_task(title, total=total, completed=done, note=""))


@final
class Bar:
    """The bar of the running stage."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, note: str) -> None:
        """One step more; ``note`` stands beside the count."""
        self._progress.update(self._task, advance=1, note=note)  # type: ignore[arg-type]
