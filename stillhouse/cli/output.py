"""Where things are printed: documents and tables to stdout, all else to stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
out, err = Console(), Console(stderr=True)


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """One JSON document."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(indent=2, by_alias=True))
        return
    data = [item.model_dump(mode="json", by_alias=True) for item in value]
    typer.echo(json.dumps({"object": "list", "data": data, "has_more": False, "next_cursor": None}, indent=2))
