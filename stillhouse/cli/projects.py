"""``stillhouse projects``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from stillhouse.cli import exits, tables
from stillhouse.cli.output import Json, out, print_json
from stillhouse.client import Client
from stillhouse.projects import Project

projects = typer.Typer(no_args_is_help=True, help="Projects and their limits.")

_NONE = "none"
_OPTION = f"A number, or {_NONE} for the installation's."


@projects.command("list")
def list_projects(*, as_json: Json = False) -> None:
    """Projects, and how much of its limits each has used. An operator's key sees all of them."""
    with Client() as client:
        found = client.projects()
    if as_json:
        print_json(found)
    else:
        out.print(_table(found))


@projects.command("limit")
def limit_project(
    project: Annotated[str, typer.Argument(help="Its name or id.")],
    running: Annotated[str | None, typer.Option(help=f"Jobs that run at once. {_OPTION}")] = None,
    waiting: Annotated[str | None, typer.Option(help=f"Jobs that wait. {_OPTION}")] = None,
    storage_bytes: Annotated[str | None, typer.Option(help=f"What it stores. {_OPTION}")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Set limits of a project; takes an operator's key: an admin key of the project default."""
    given = {"running": running, "waiting": waiting, "storage_bytes": storage_bytes}
    limits = {name: _limit(name, value) for name, value in given.items() if value is not None}
    with Client() as client:
        named = [each for each in client.projects() if project in (each.id, each.name)]
        if not named:
            why = f"no project {project!r} is in sight of this key; see: stillhouse projects list"
            raise exits.CommandError(why, exits.MISSING)
        limited = client.limit_project(named[0].id, limits)
    if as_json:
        print_json(limited)
    else:
        out.print(_table([limited]))


def _limit(name: str, value: str) -> int | None:
    if value == _NONE:
        return None
    if not value.isascii() or not value.isdigit():
        option = f"--{name.replace('_', '-')}"
        raise typer.BadParameter(f"{option} takes a whole number from 0 on, or {_NONE}; not {value!r}")
    return int(value)


def _table(found: list[Project]) -> Table:
    table = tables.listing("name", "running", "waiting", "storage bytes")
    for each in found:
        used, limits = each.usage.model_dump(), each.in_force.model_dump()
        cells = [f"{used[name]:,} of {'any' if limits[name] is None else f'{limits[name]:,}'}" for name in used]
        table.add_row(each.id, escape(each.name), *cells)
    return table
