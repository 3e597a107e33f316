"""``stillhouse keys``."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.markup import escape

from stillhouse.cli import server, tables
from stillhouse.cli.output import Json, out, print_json
from stillhouse.client import Client

keys = typer.Typer(no_args_is_help=True, help="API keys.")


def _by_way_of_the_database(arguments: list[str], *, as_json: bool) -> None:
    """Where a database is named and no server: become the server's own command, and do not come back."""
    if "STILLHOUSE_URL" not in os.environ and "STILLHOUSE_DATABASE_URL" in os.environ:
        server.hand_over("app", ["keys", *arguments, *(["--json"] if as_json else [])])


@keys.command("create")
def create_key(
    name: str = "key",
    project: Annotated[str | None, typer.Option(help="Made if need be; over the API it takes an operator.")] = None,
    scopes: str = "jobs:read,jobs:write",
    *,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once."""
    named = ["--project", project] if project is not None else []
    _by_way_of_the_database(["create", "--name", name, "--scopes", scopes, *named], as_json=as_json)
    with Client() as client:
        made = client.create_key(name=name, scopes=[scope.strip() for scope in scopes.split(",")], project=project)
    if as_json:
        print_json(made)
    else:
        typer.echo(made.key)


@keys.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Another's; over the API it takes an operator.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """The project's keys; by way of the database, those of every project."""
    named = ["--project", project] if project is not None else []
    _by_way_of_the_database(["list", *named], as_json=as_json)
    with Client() as client:
        found = client.keys(project=project)
    if as_json:
        print_json(found)
        return
    table = tables.listing("name", "scopes", "key", "revoked")
    for key in found:
        table.add_row(key.id, escape(key.name), " ".join(key.scopes), f"{key.prefix}…", str(key.revoked_at or ""))
    out.print(table)


@keys.command("revoke")
def revoke_key(key_id: str, *, as_json: Json = False) -> None:
    """Revoke a key."""
    _by_way_of_the_database(["revoke", key_id], as_json=as_json)
    with Client() as client:
        client.revoke_key(key_id)
    if as_json:
        print_json({"object": "api_key", "id": key_id, "revoked": True})
