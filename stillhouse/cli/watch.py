"""Following a job: live bars for people, plain lines where stderr is no terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from stillhouse.client import Client
from stillhouse.resources import Event, Job

_COLUMNS = "[bold]{task.fields[phase]:<10}[/]"


def watch(client: Client, job_id: str, console: Console) -> Job:
    """Show the job until it has ended; goes on after a cut. ``console`` writes to stderr."""
    if console.is_terminal:
        with _bars(console) as bars:
            shown = _Bars(bars)
            for event in client.follow(job_id):
                shown.take(event)
    else:
        for event in client.follow(job_id):
            if line := describe(event):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    return client.get(job_id)


def describe(event: Event) -> str | None:
    """One line for an event that is worth one."""
    data = event.data
    match event.type:
        case "job.status_changed":
            why = ": ".join(part for part in (data.get("reason"), data.get("detail")) if part)
            return f"{data['to']}{f' ({why})' if why else ''}"
        case "job.stage_changed":
            return f"stage {data['stage']}"
        case "job.epoch_finished":
            return f"{data['phase']} epoch {data['epoch']}/{data['epochs']} {_figures(data['metrics'])}"
        case "job.warning":
            return f"warning: {data.get('message')}"
    return None


def _figures(metrics: dict[str, float | None]) -> str:
    names = {"train/loss": "loss", "train/top1": "train", "validation/top1": "validation"}
    shown = ((short, metrics.get(name)) for name, short in names.items())
    return " ".join(f"{short} {value:.4f}" for short, value in shown if value is not None)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn(_COLUMNS),
        BarColumn(),
        TextColumn("{task.completed:>4.0f}/{task.total:.0f} epochs"),
        TextColumn("[dim]{task.fields[figures]}[/]"),
        TextColumn("[cyan]{task.fields[speed]}[/]"),
        console=console,
    )


class _Bars:
    """One bar for each network that is trained."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def take(self, event: Event) -> None:
        data = event.data
        if event.type == "job.progress":
            rate, eta = data.get("images_per_second"), data.get("eta_seconds")
            speed = f"{rate:,.0f} images/s" if rate else ""
            speed += f", {eta:.0f} s left" if eta is not None else ""
            done = data["epoch"] - 1 + data["step"] / data["steps"]
            self.bars.update(self._task(data), completed=done, speed=speed)
        elif event.type == "job.epoch_finished":
            figures = _figures(data["metrics"])
            self.bars.update(self._task(data), completed=data["epoch"], figures=figures)
            if data["epoch"] == data["epochs"]:
                self.bars.update(self._task(data), speed="")
        elif line := describe(event):
            self.bars.console.print(line, markup=False, highlight=False)

    def _task(self, data: dict[str, object]) -> TaskID:
        phase = str(data["phase"])
        if phase not in self.tasks:
            total = float(str(data["epochs"]))
            self.tasks[phase] = self.bars.add_task("", total=total, phase=phase, figures="", speed="")
        return self.tasks[phase]
