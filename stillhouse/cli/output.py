"""Where things are printed: documents and tables to stdout, all else to stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
out, err = Console(), Console(stderr=True)


def print_json(value: BaseModel | Mapping[str, Any] | Sequence[BaseModel], *, has_more: bool = False) -> None:
    """One JSON document: an object as it is, several as a list. ``has_more`` says that a limit cut the list."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(indent=2, by_alias=True))
    elif isinstance(value, Mapping):
        typer.echo(json.dumps(value, indent=2))
    else:
        data = [item.model_dump(mode="json", by_alias=True) for item in value]
        typer.echo(json.dumps({"object": "list", "data": data, "has_more": has_more, "next_cursor": None}, indent=2))
