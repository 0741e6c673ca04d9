"""How far the campaign is, read from its run folders, and the page that tells it."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, final

from jobs import Job
from matplotlib.figure import Figure

from binarch.errors import UserError
from binarch.report.encode import encode
from binarch.runs import read_json, write_atomic
from binarch.training.config import per_stage

#: One JSON object per slice: date, machine, seconds, jobs.
LOG = "campaign.jsonl"
_TITLES = ("job", "state", "figure", "published", "trained", "seed", "where and when")


@final
class Plan:
    """The states of ``jobs`` in the folder ``out``; ``at_hand`` are the sets of images that jobs can be given.

    A state is what the run folder says (``result.json``, ``metrics.jsonl``). The log adds what no run folder tells:
    machines, dates, and how the last try of a job failed.
    """

    def __init__(self, jobs: Sequence[Job], out: Path, at_hand: Collection[str]) -> None:
        self.jobs, self.out, self.at_hand = {job.name: job for job in jobs}, out, at_hand

    def done(self, job: Job) -> bool:
        """Whether it has its result."""
        return (self.out / job.folder / "result.json").is_file()

    def blocked(self, job: Job) -> list[str]:
        """What it waits for, in words."""
        waits = [name for name in job.needs if not self.done(self.jobs[name])]
        best = None if waits else self.best(job.needs)
        if job.takes_weights and best and not any(best.glob("network.safetensors*")):  # git ignores them
            waits = [f"the weights in {best.relative_to(self.out)}"]
        return waits if job.images in self.at_hand else [*waits, f"the images of {job.images}"]

    def ready(self) -> list[Job]:
        """What can be worked on now, in order."""
        return [job for job in self.jobs.values() if not self.done(job) and not self.blocked(job)]

    def best(self, names: Sequence[str]) -> Path | None:
        """The run folder of the best of the done jobs ``names``; None for no names."""
        jobs = [self.jobs[name] for name in names]
        return self.out / max(jobs, key=lambda job: self.figure(job) or 0.0).folder if jobs else None

    def figure(self, job: Job) -> float | None:
        """What it was done for, as a share; None where it is not done or measures nothing."""
        if job.figure is None or not self.done(job):
            return None
        value = read_json(self.out / job.folder / "result.json").get(job.figure)
        return None if value is None else float(value)

    def state(self, job: Job) -> str:
        """In words."""
        if self.done(job):
            return "done"
        config = self.out / job.folder / "config.json"
        begun = f"{len(self._rows(job))} of {_epochs(read_json(config))} epochs" if config.is_file() else ""
        if self.failure(job):
            return "failed" + f", {begun}" * bool(begun)
        waits = ", ".join(self.blocked(job))
        return f"begun, {begun}" if begun else f"waiting for {waits}" if waits else "ready"

    def failure(self, job: Job) -> str | None:
        """How its last try failed, in one line; None if it did not."""
        tries = [entry for row in self.log() for entry in row["jobs"] if entry["job"] == job.name]
        return tries[-1].get("failed") if tries and not self.done(job) else None

    def log(self) -> list[dict[str, Any]]:
        """The slices so far."""
        path = self.out / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise UserError(f"{path}: has a line that is no JSON; delete that line, it only tells of a slice") from None

    def write(self) -> None:
        """Write ``campaign.md``, and the curve once all its points are there."""
        jobs = list(self.jobs.values())
        following = [job.name for job in self.ready()][:3]
        page = [
            "# Campaign",
            "",
            f"{sum(map(self.done, jobs))} of {len(jobs)} jobs are done. Next: {', '.join(following) or 'nothing'}.",
            "",
            "A figure is what a finished job was done for, or that of the last epoch so far; published figures are "
            "test accuracies, and the goals. Trained: seconds of the epochs alone.",
            "",
            *_aligned(_TITLES, [self._row(job) for job in jobs]),
            "",
            *(f"- {job.name} failed when last tried: {failure}" for job in jobs if (failure := self.failure(job))),
            "",
            *self._curve(),
            "## Goals and commands",
            "",
            "`{out}` is this folder, `{data}` that of the images, `{best}` the run folder of the best of the jobs in "
            "brackets.",
            "",
            *(f"- **{job.name}**: {job.goal}. `{job.command}`" + _needs(job) for job in jobs),
            "",
        ]
        write_atomic(self.out / "campaign.md", "\n".join(page))

    def _row(self, job: Job) -> tuple[str, ...]:
        config = self.out / job.folder / "config.json"
        seeds = read_json(config)["seed"] if config.is_file() else "-"
        seconds = sum(row["seconds"] for row in self._rows(job))
        return (
            job.name,
            self.state(job),
            self._numbers(job),
            "-" if job.published is None else f"{job.published:.2f} %",
            f"{seconds:,.0f} s" if seconds else "-",
            " ".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds),
            self._where(job),
        )

    def _numbers(self, job: Job) -> str:
        rows = self._rows(job)
        if (figure := self.figure(job)) is not None:
            found = {str(job.figure): figure}
        else:
            found = {
                key: rows[-1][key] for key in ("validation_accuracy", "train_accuracy") if rows and key in rows[-1]
            }
        words = (f"{key.removesuffix('_accuracy').replace('_', ' ')} {100 * n:.2f} %" for key, n in found.items())
        return ", ".join(words) or "-"

    def _where(self, job: Job) -> str:
        dates: dict[str, list[str]] = {}
        for row in self.log():
            if any(entry["job"] == job.name for entry in row["jobs"]):
                dates.setdefault(row["machine"], []).append(row["date"][:10])
        words = (f"{machine}, {' to '.join(dict.fromkeys((days[0], days[-1])))}" for machine, days in dates.items())
        return "; ".join(words) or "-"

    def _rows(self, job: Job) -> list[dict[str, Any]]:
        """Its epochs: those of the run folder, or of the seeds of a search that is not finished."""
        folder = self.out / job.folder
        own = folder / "metrics.jsonl"
        files = [own] if own.is_file() else sorted(folder.rglob("metrics.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]

    def _curve(self) -> list[str]:
        points = [job for job in self.jobs.values() if job.epochs_a_stage]
        if not points or not all(map(self.done, points)):
            return []
        found = [(job.epochs_a_stage or 0, 100 * (self.figure(job) or 0.0)) for job in points]
        picture = Figure(figsize=(5, 3), layout="constrained")
        axes = picture.add_subplot(xlabel="epochs a stage", ylabel="test accuracy, %", xscale="log")
        axes.plot(*zip(*found, strict=True), "o-", color="#1f5fa8")
        if points[0].published is not None:
            axes.axhline(points[0].published, color="#888888", linestyle="--")
        axes.set_xticks([epochs for epochs, _ in found], [str(epochs) for epochs, _ in found])
        write_atomic(self.out / "campaign.svg", encode(picture, "svg"))
        return ["![Test accuracy by epochs a stage; dashed: published](campaign.svg)", ""]


def _needs(job: Job) -> str:
    return f" [{', '.join(job.needs)}]" if job.needs else ""


def _epochs(config: dict[str, Any]) -> int:
    """Epochs of a whole search or training, by its ``config.json``."""
    search = config["verb"] == "search"
    stages = len(config["keep"]) + 1 if search else len(config["binarize"])
    return sum(per_stage("epochs", tuple(config["epochs"]), stages)) * (len(config["seed"]) if search else 1)


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose source is a table, too."""
    table = [tuple(cell.replace("|", "/") for cell in row) for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in table]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
