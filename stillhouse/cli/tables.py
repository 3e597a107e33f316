"""What people see: tables on stdout."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from stillhouse.fleet import Worker
from stillhouse.resources import DryRun, Headline, Job, Result, TeacherHeadline
from stillhouse.spec.methods import title as method_title
from stillhouse.spec.networks import title

STYLES = {
    "queued": "yellow",
    "running": "cyan",
    "pausing": "yellow",
    "paused": "yellow",
    "cancelling": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
}


def listing(*headings: str) -> Table:
    """The columns of a list behind the id, which is never cut, since other commands take it; these are folded."""
    return Table(
        Column("id", no_wrap=True), *(Column(each, overflow="fold") for each in headings), box=None, pad_edge=False
    )


def jobs(found: Iterable[Job]) -> Table:
    """A line for each job. Ids are never cut: they are what the other commands take."""
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    for heading in ("name", "status", "networks", "done", "top-1"):
        table.add_column(heading)
    for row in found:
        teacher = f"{title(row.spec.teacher)} → " if row.spec.teacher else ""
        top1 = f"{row.result.student.top1:.2%}" if row.result else ""
        status = f"[{STYLES[row.status]}]{row.status}[/]"
        networks = f"{teacher}{title(row.spec.student)}"
        table.add_row(row.id, escape(row.name), status, escape(networks), f"{row.progress.fraction:.0%}", top1)
    return table


def workers(found: Iterable[Worker]) -> Table:
    """A line for each worker."""
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for heading in ("state", "queues", "devices", "running", "seen", "reason"):
        table.add_column(heading)
    for row in found:
        style = {"ready": "green", "draining": "yellow", "unfit": "red"}[row.state] if row.live else "red"
        state = f"[{style}]{row.state if row.live else 'silent'}[/]"
        seen = f"{row.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
        queues, devices = escape(", ".join(row.queues)), escape(", ".join(row.devices))
        table.add_row(escape(row.name), state, queues, devices, str(row.running), seen, escape(row.reason or ""))
    return table


def job(shown: Job) -> Table:
    """One job, field by field."""
    table = Table.grid(padding=(0, 2))
    reason = f" ({shown.status_reason})" if shown.status_reason else ""
    rows = {
        "id": shown.id,
        "name": escape(shown.name),
        "status": f"[{STYLES[shown.status]}]{shown.status}[/]{reason}",
        "detail": escape(shown.status_detail or ""),
        "stage": shown.stage,
        "data set": escape(shown.spec.dataset.id),
        "teacher": escape(title(shown.spec.teacher)) if shown.spec.teacher else None,
        "student": escape(title(shown.spec.student)),
        "method": escape(method_title(shown.spec.method)),
        "progress": f"{shown.progress.fraction:.0%}",
        "attempt": str(shown.attempt),
        "created": f"{shown.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "finished": f"{shown.finished_at:%Y-%m-%d %H:%M:%S} UTC" if shown.finished_at else None,
    }
    for name, value in rows.items():
        if value:
            table.add_row(f"[bold]{name}[/]", value)
    return table


def comparison(result: Result) -> Table:
    """Teacher, student and control side by side."""
    table = Table(
        title="on the test split, in fp32", title_style="dim", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("network", no_wrap=True)
    for heading in ("top-1", "top-5", "loss", "parameters", "MFLOPs", "KiB", "ms"):
        table.add_column(heading, justify="right", no_wrap=True)  # fits a terminal of 80 columns
    networks: tuple[tuple[str, Headline | TeacherHeadline | None], ...] = (
        ("teacher", result.teacher),
        ("student", result.student),
        ("control", result.control),
    )
    for name, row in networks:
        if row is not None:
            spread = f" ± {row.top1_deviation * 100:.2f}" if row.top1_deviation is not None else ""
            table.add_row(
                name,
                f"{_known(row.top1, '.2%')}{spread}",
                _known(row.top5, ".2%"),
                _known(row.loss, ".3f"),
                _known(row.parameters, ","),
                _known(None if row.flops is None else row.flops / 1e6, ".2f"),
                f"{row.bytes / 1024:,.0f}",
                _known(row.latency_ms, ".2f"),
            )
    return table


def _known(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def dry_run(answer: DryRun) -> Table:
    """What a job would take."""
    table = Table.grid(padding=(0, 2))
    estimate = answer.estimate
    if estimate.teacher_parameters is not None:
        table.add_row("teacher", *_cost(estimate.teacher_parameters, estimate.teacher_flops))
    table.add_row("student", *_cost(estimate.student_parameters, estimate.student_flops))
    if estimate.memory_bytes is not None:
        memory = f"{estimate.memory_bytes / 2**20:.1f} MiB"
        table.add_row("memory", memory, "weights, optimizer and data; activations come on top")
    table.add_row("time", "unknown" if estimate.seconds is None else f"about {estimate.seconds:.0f} s", "")
    for role, points in answer.feature_points.items():
        for name, shape in points.items():
            table.add_row(f"{role} point", name, "x".join(map(str, shape)) if shape else "known to the worker")
    for warning in answer.warnings:
        table.add_row("[yellow]warning[/]", escape(warning), "")
    return table


def _cost(parameters: int | None, flops: int | None) -> tuple[str, str]:
    return (
        "unknown parameters" if parameters is None else f"{parameters:,} parameters",
        "unknown FLOPs" if flops is None else f"{flops / 1e6:.2f} MFLOPs",
    )
