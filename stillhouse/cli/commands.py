"""Every command. With ``--json`` stdout is exactly one JSON document; progress and errors go to stderr."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from stillhouse.cli import exits, server, specfile, tables
from stillhouse.cli.assets import datasets, models
from stillhouse.cli.keys import keys
from stillhouse.cli.output import Json, err, out, print_json
from stillhouse.cli.projects import projects
from stillhouse.cli.watch import watch as follow
from stillhouse.client import Client
from stillhouse.client.calls import Kind
from stillhouse.client.errors import ApiError, StillhouseError
from stillhouse.resources import Job

cli = typer.Typer(
    help="Knowledge distillation as a service.",
    epilog=(exits.__doc__ or "").split("\n\n", 1)[1],
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
cli.add_typer(keys, name="keys")
cli.add_typer(projects, name="projects")
cli.add_typer(datasets, name="datasets")
cli.add_typer(models, name="models")
server.install(cli)

JobId = Annotated[str, typer.Argument(metavar="ID", help="job_…")]


def _show(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    out.print(tables.job(job))
    if job.result is not None:
        out.print(tables.comparison(job.result))
        out.print(job.result.verdict, markup=False)


@cli.command()
def submit(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The job spec.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show its progress.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and estimate; store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a job."""
    parsed = specfile.load(spec)
    with Client() as client:
        if dry_run:
            answer = client.dry_run(parsed)
            if as_json:
                print_json(answer)
            else:
                out.print(tables.dry_run(answer))
            return
        job = client.submit(parsed)
        for warning in job.warnings:
            err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
        if watch:
            _watch(client, job.id, as_json=as_json)
        _show(job, as_json=as_json)


@cli.command("jobs")
def list_jobs(
    status: Annotated[list[str] | None, typer.Option(help="Any of these; repeat it.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of these; repeat it.")] = None,
    query: Annotated[str | None, typer.Option("-q", "--query", help="Part of the name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    *,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with Client() as client:
        found = client.jobs(status=status, tag=tag, q=query, limit=min(limit + 1, 200))
        shown = list(islice(found, limit))
        more = next(found, None) is not None
    if as_json:
        print_json(shown, has_more=more)
    else:
        out.print(tables.jobs(shown))


@cli.command()
def show(job_id: JobId, *, as_json: Json = False) -> None:
    """Show a job."""
    with Client() as client:
        _show(client.get(job_id), as_json=as_json)


@cli.command()
def watch(job_id: JobId, *, as_json: Json = False) -> None:
    """Follow a job to its end; the exit status says how it ended."""
    with Client() as client:
        _watch(client, job_id, as_json=as_json)


def _watch(client: Client, job_id: str, *, as_json: bool) -> None:
    try:
        job = follow(client, job_id, err)
    except KeyboardInterrupt:
        err.print(f"{job_id} goes on; watch it again with: stillhouse watch {job_id}", highlight=False)
        raise typer.Exit(exits.INTERRUPTED) from None
    _show(job, as_json=as_json)
    raise typer.Exit(exits.of_job(job.status))


@cli.command()
def logs(
    job_id: JobId, offset: Annotated[int, typer.Option(min=0, help="In bytes.")] = 0, *, as_json: Json = False
) -> None:
    """Print what a job's children printed."""
    pieces = []
    with Client() as client:
        while True:
            text, following = client.logs(job_id, offset=offset)
            if not text:
                break
            if as_json:
                pieces.append(text)
            else:
                typer.echo(text, nl=False)
            offset = following
    if as_json:
        print_json({"object": "log", "job_id": job_id, "text": "".join(pieces), "next_offset": offset})


@cli.command()
def cancel(job_id: JobId, *, as_json: Json = False) -> None:
    """Stop a job for good."""
    with Client() as client:
        _show(client.cancel(job_id), as_json=as_json)


@cli.command()
def pause(job_id: JobId, *, as_json: Json = False) -> None:
    """Stop a job at a checkpoint."""
    with Client() as client:
        _show(client.pause(job_id), as_json=as_json)


@cli.command()
def resume(job_id: JobId, *, as_json: Json = False) -> None:
    """Put a paused job back into the queue."""
    with Client() as client:
        _show(client.resume(job_id), as_json=as_json)


@cli.command()
def retry(job_id: JobId, *, as_json: Json = False) -> None:
    """Make a new job from the same spec."""
    with Client() as client:
        _show(client.retry(job_id), as_json=as_json)


@cli.command()
def delete(job_id: JobId, *, as_json: Json = False) -> None:
    """Delete a job that has ended, with its files."""
    with Client() as client:
        client.delete(job_id)
    if as_json:
        print_json({"object": "job", "id": job_id, "deleted": True})


@cli.command()
def download(
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A folder; by default the job's id.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Download a finished job's files; each is checked against its sha256."""
    folder = output or Path(job_id)
    if folder.exists() and not folder.is_dir():
        raise exits.CommandError(f"{folder} is a file; name a folder with -o", exits.USAGE)
    with Client() as client:
        found = client.artifacts(job_id)
        if not found:
            why = f"{job_id} is {client.get(job_id).status} and has no files; only a job that succeeded has"
            raise exits.CommandError(why, exits.REFUSED)
        files = client.download(job_id, folder)
    if as_json:
        print_json(found)
    else:
        out.print(f"{len(files)} files in {folder}, each with the right sha256", highlight=False, markup=False)


@cli.command()
def catalog(kind: Annotated[Kind, typer.Argument()] = "architectures", *, as_json: Json = False) -> None:
    """What a spec may name."""
    with Client() as client:
        entries = client.catalog(kind)
    if as_json:
        print_json(entries)
        return
    table = Table("name", "description")
    for entry in entries:
        table.add_row(escape(entry.name), escape(entry.description))
    out.print(table)


@cli.command("workers")
def list_workers(*, as_json: Json = False) -> None:
    """Who takes jobs, and how each is."""
    with Client() as client:
        found = client.workers()
    if as_json:
        print_json(found)
    else:
        out.print(tables.workers(found))


def main() -> None:
    """Run a command; an error is a sentence on stderr and an exit status, never a traceback."""
    try:
        cli()
    except specfile.SpecFileError as error:
        err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(exits.USAGE)
    except StillhouseError as error:
        lines = [str(error)]
        if isinstance(error, ApiError) and error.errors:
            lines = [f"{item.pointer or '/'}: {item.message}" for item in error.errors]
        for line in lines:
            err.print(f"stillhouse: {line}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(exits.of_error(error))
    except OSError as error:
        err.print(f"stillhouse: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(exits.FAILED)
