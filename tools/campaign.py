"""Work off the campaign in slices: a machine with a GPU is free for minutes, here and there.

    python tools/campaign.py run --minutes 9 --data path/to/cifar10 --out results/campaign
    python tools/campaign.py plan --out results/campaign

Each job is a ``binarch`` command of its own that continues where it was stopped; docs/campaign.md tells more.
"""

import fcntl
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import IO, Any, final, get_args

import tyro
from jobs import Job, Scale, campaign
from pieces import Pieces
from plan import LOG, Plan

from binarch.errors import UserError, choose
from binarch.runs import environment, read_json, write_atomic

#: Bytes of the largest file that is left in the folder.
LARGEST = 15 * 2**20
#: Seconds at the end of a slice for saving and cutting.
RESERVE = 30.0
#: Seconds between looks at a running job.
_LOOK = 0.2


@final
class Slice:
    """Works on ``jobs`` in the folder ``out``, one after another, until ``stop`` says so or none is left.

    ``stop`` is asked before each job and some times a second while one runs; the job is then told once, by SIGINT, to
    save its state and end. ``images`` are folders of images by name; ``binarch`` is the command that has the verbs.
    What a running job has saved is cut into pieces and told every ``save_seconds``, should the machine be lost.
    A job that fails is told, and tried again by the next slice.
    """

    def __init__(
        self, jobs: Sequence[Job], out: Path, *, images: Mapping[str, Path], stop: Callable[[], bool],
        binarch: Sequence[str] = (sys.executable, "-m", "binarch"), save_seconds: float = 60.0, largest: int = LARGEST,
    ) -> None:  # fmt: skip
        self.out, self.images, self.stop = out, images, stop
        self.binarch, self.save_seconds, self.largest = binarch, save_seconds, largest
        self.plan = Plan(jobs, out, images)

    def work(self) -> None:
        """Work until the end; whatever happens, what was done is told and cut."""
        with self._alone() as lock:
            env, started = environment(), time.monotonic()
            row: dict[str, Any] = {"date": env["date"], "machine": env["gpu"] or env["cpu"], "seconds": 0, "jobs": []}
            slices = self.plan.log()

            def tell() -> None:
                row["seconds"] = round(time.monotonic() - started)
                write_atomic(self.out / LOG, "".join(dumps(line) + "\n" for line in (*slices, row)))

            try:
                while not self.stop() and (job := self._next(row["jobs"])) is not None:
                    row["jobs"].append(entry := {"job": job.name})
                    tell()
                    if failed := self._run(job, lock, tell):
                        entry["failed"] = self._without_places(failed)
                    print(f"{job.name}: {failed or self.plan.state(job)}", flush=True)
            finally:
                self._drop_used_checkpoints()
                Pieces(self.out, self.largest).cut(keep=False)
                tell()
                self.plan.write()

    def _next(self, tried: Sequence[Mapping[str, str]]) -> Job | None:
        names = {entry["job"] for entry in tried}
        return next((job for job in self.plan.ready() if job.name not in names), None)

    def _run(self, job: Job, lock: IO[str], tell: Callable[[], None]) -> str | None:
        """Run it until it ends or is stopped; how it failed, in one line."""
        try:  # with its neighbours, which a table reads
            Pieces(self.out / Path(job.folder).parts[0], self.largest).join()
        except UserError as error:
            return str(error)
        places = {"out": self.out, "data": self.images[job.images], "best": self.plan.best(job.needs)}
        command = [*self._program(job), *(argument.format(**places) for argument in job.arguments)]
        log = self.out / "logs" / f"{job.name}.txt"
        log.parent.mkdir(exist_ok=True)
        with open(log, "wb") as text:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=text, stderr=text, pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C reaches this process only, which tells the job once
            )  # fmt: skip
        lock.truncate(0)
        print(process.pid, file=lock, flush=True)
        try:
            code = self._wait(process, job, tell)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
            lock.truncate(0)
        if code in (130, -signal.SIGINT) or (code == 0 and self.plan.done(job)):
            return None
        said = log.read_text(errors="replace").split("\n") if code else [f"ended without {job.folder}/result.json"]
        last = next((line.strip() for line in reversed(said) if line.strip()), "said nothing")
        return f"{last} (exit {code})" if code else last

    def _program(self, job: Job) -> list[str]:
        """What has the verbs, as many times as the job wants it."""
        python, *program = self.binarch
        shared = ["-m", "torch.distributed.run", "--nproc-per-node", str(job.ranks)]
        return [python, *(shared if job.ranks > 1 else []), *program]

    def _wait(self, process: subprocess.Popen[bytes], job: Job, tell: Callable[[], None]) -> int:
        told, saved, before = False, time.monotonic(), ""
        while True:
            try:
                code = process.wait(_LOOK)
                return 130 if told and job.ranks > 1 else code  # torchrun ends with 1 when its ranks end with 130
            except subprocess.TimeoutExpired:
                pass
            if not told and self.stop():
                process.send_signal(signal.SIGINT)
                told = True
            if time.monotonic() - saved >= self.save_seconds:
                Pieces(self.out / job.folder, self.largest).cut(keep=True)
                tell()
                if (state := self.plan.state(job)) != before:
                    print(f"{job.name}: {state}", flush=True)
                saved, before = time.monotonic(), state

    @contextmanager
    def _alone(self) -> Iterator[IO[str]]:
        """Hold the folder; a job holds it, too, should it outlive this process."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.out}: cannot be made ({error.strerror}); give another folder") from None
        with open(self.out / ".lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UserError(
                    f"--out {self.out}: another slice, or a job that one left behind, works here; wait for its end, or "
                    f"end the job (kill -INT {file.read().strip() or 'its number'})"
                ) from None
            file.truncate(0)
            yield file

    def _drop_used_checkpoints(self) -> None:
        """A run that has its result is never continued."""
        for result in self.out.rglob("result.json"):
            left = result.parent.glob("last.ckpt*")
            for path in sorted(left, key=lambda path: path.suffix != ".pieces"):  # no list of pieces that are gone
                path.unlink()

    def _without_places(self, line: str) -> str:
        """``line`` without folders that another machine does not have."""
        for name, place in {"out": self.out, **self.images}.items():
            line = line.replace(str(place.absolute()), f"{{{name}}}")
        return line


@dataclass
class Run:
    """Work on the campaign until the time is up; what is finished stays, what was begun is continued."""

    data: Path
    """Folder of CIFAR-10."""
    out: Path
    """Folder of all runs."""
    scale: Scale | None = None
    """The paper's runs, days of a GPU; or what two cores can do in hours (cpu). Default: the folder's, or paper."""
    minutes: float = 9.0
    """Length of the slice, saving included."""
    cifar100: Path | None = None
    """Folder of CIFAR-100; without it, its jobs wait."""


@dataclass
class Tell:
    """Write the plan, campaign.md, and nothing else."""

    out: Path
    """Folder of all runs."""
    scale: Scale | None = None
    """Which campaign's. Default: the folder's, or paper."""


@dataclass
class Join:
    """Make large files whole again, to use finished networks."""

    out: Path
    """Folder of all runs."""


def until(minutes: float) -> Callable[[], bool]:
    """Whether a slice of ``minutes`` that begins now is over: its time, or Ctrl-C or SIGTERM before it."""
    end, asked = time.monotonic() + 60 * minutes - RESERVE, threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    return lambda: asked.is_set() or time.monotonic() > end


def scale_of(out: Path, asked: Scale | None) -> Scale:
    """The scale of the campaign in the folder ``out``, which keeps the first one asked for."""
    file = out / "campaign.json"
    kept = read_json(file).get("scale") if file.is_file() else None
    if asked is not None and kept not in (None, asked):
        raise UserError(
            f"--scale: {out} is a campaign of scale {kept}, not {asked}; leave it out, or give another --out"
        )
    scale: Scale = choose("scale", kept or asked or "paper", get_args(Scale))  # type: ignore[assignment]
    if kept is None and asked is not None:
        write_atomic(file, dumps({"scale": scale}) + "\n")
    return scale


def main(args: Run | Tell | Join) -> None:
    """Do what is asked."""
    if isinstance(args, Tell | Join) and not args.out.is_dir():
        raise UserError(f"--out {args.out}: no such folder; give the folder of a campaign")
    if isinstance(args, Tell):
        Plan(campaign(scale_of(args.out, args.scale)), args.out, {"cifar10"}).write()
    elif isinstance(args, Join):
        Pieces(args.out, LARGEST).join()
    else:
        if 60 * args.minutes <= RESERVE:
            raise UserError(f"--minutes: {args.minutes} is not possible; use more than {RESERVE / 60:g}")
        for flag, folder in (("--data", args.data), ("--cifar100", args.cifar100)):
            if folder is not None and not folder.exists():
                raise UserError(f"{flag} {folder}: no such file or folder; give a local copy of the images")
        images = {"cifar10": args.data, "cifar100": args.cifar100}
        there = {name: path for name, path in images.items() if path is not None}
        jobs = campaign(scale_of(args.out, args.scale))
        Slice(jobs, args.out, images=there, stop=until(args.minutes)).work()


if __name__ == "__main__":
    try:
        main(tyro.extras.subcommand_cli_from_dict({"run": Run, "plan": Tell, "join": Join}))
    except UserError as error:
        print(f"campaign: {error}", file=sys.stderr)
        sys.exit(2)
