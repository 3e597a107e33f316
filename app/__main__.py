"""``python -m app``: the server's commands. A mistake that a person can mend ends in one line that says how."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Column, Table

from app import doctor as doctor_module
from app import logs, tracing
from app import serve as serve_module
from app.accounts import service as accounts
from app.accounts.schemas import Name
from app.auth import SCOPES
from app.config import Settings
from app.db import Database
from app.failing import CannotStart, mendable
from app.lifeline import die_with_parent
from app.main import create_app
from app.migrate import pending, upgrade

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
keys = typer.Typer(no_args_is_help=True)
cli.add_typer(keys, name="keys", help="API keys, by way of the database.")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]


@cli.command()
def serve(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free port.")] = 8400,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
) -> None:
    """API and one worker on one data directory."""
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    logs.configure("serve", form=settings.log_format, level=logging.WARNING)
    raise typer.Exit(serve_module.serve(settings, host=host, port=port))


@cli.command()
def api(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8400,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    lifeline: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """The REST API alone."""
    if lifeline is not None:
        die_with_parent(lifeline)
    settings = Settings()
    logs.configure("api", form=settings.log_format, level=logging.WARNING)
    tracing.configure("api")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if pending(settings.database_url):
        raise CannotStart("the database is not migrated; run: stillhouse migrate")
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        fd=fd,
        log_level="warning",
        log_config=None,  # its records go where all others go
        access_log=False,
        timeout_graceful_shutdown=5,
    )


@cli.command()
def migrate() -> None:
    """Bring the database up to date."""
    upgrade(Settings().database_url)


@cli.command()
def doctor(*, as_json: Json = False) -> None:
    """What is wrong with this installation, and how to mend it."""
    raise typer.Exit(doctor_module.doctor(Settings(), as_json=as_json))


@keys.command("create")
def create_key(
    name: str = "key",
    project: Annotated[str, typer.Option(help="Made if need be.")] = "default",
    scopes: Annotated[str, typer.Option(help="Separated by commas.")] = "jobs:read,jobs:write",
    *,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    if unknown := sorted(set(wanted) - set(SCOPES)):
        raise typer.BadParameter(f"unknown scope {', '.join(unknown)}; choose from {', '.join(SCOPES)}")
    for option, given in (("--name", name), ("--project", project)):
        try:
            TypeAdapter(Name).validate_python(given)
        except ValidationError as error:
            raise typer.BadParameter(f"{option}: {error.errors()[0]['msg']}") from error
    if not wanted:
        raise typer.BadParameter(f"--scopes is empty; choose from {', '.join(SCOPES)}")
    settings = Settings()
    upgrade(settings.database_url)
    with Database(settings.database_url).transaction() as session:
        made = accounts.create(session, project=project, name=name, scopes=wanted)
    print(made.model_dump_json(indent=2) if as_json else made.key)


@keys.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only its keys.")] = None, *, as_json: Json = False
) -> None:
    """Every key of every project."""
    with Database(Settings().database_url).reading() as session:
        found = accounts.find_all(session, project=project)
    if as_json:
        data = [key.model_dump(mode="json") for key in found]
        print(json.dumps({"object": "list", "data": data, "has_more": False, "next_cursor": None}, indent=2))
        return
    headings = ("name", "project", "scopes", "key", "last used", "revoked")
    others = [Column(heading, overflow="fold") for heading in headings]
    table = Table(Column("id", no_wrap=True), *others, box=None, pad_edge=False)
    for key in found:
        used, revoked = (str(moment or "") for moment in (key.last_used_at, key.revoked_at))
        table.add_row(key.id, key.name, key.project, " ".join(key.scopes), f"{key.prefix}…", used, revoked)
    Console().print(table)


@keys.command("revoke")
def revoke_key(key_id: str, *, as_json: Json = False) -> None:
    """Revoke a key."""
    with Database(Settings().database_url).transaction() as session:
        accounts.revoke(session, key_id, caller=None)
    if as_json:
        print(json.dumps({"object": "api_key", "id": key_id, "revoked": True}))


def main() -> None:
    """Run a command."""
    os.umask(0o077)  # what is written here is this user's alone: keys' digests, specs, models
    logs.configure("app", form="text", level=logging.WARNING)
    with mendable():
        cli(prog_name="stillhouse")


if __name__ == "__main__":
    main()
