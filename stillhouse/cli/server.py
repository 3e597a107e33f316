"""The commands that are the server's own: they hand over to ``python -m app`` and ``python -m worker``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from stillhouse.cli import exits

TREE = Path(__file__).resolve().parent.parent.parent
"""Where ``app`` and ``worker`` lie, in the source tree and in the image; not in an installed wheel."""

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def hand_over(module: str, arguments: Sequence[str]) -> None:
    """Become ``python -m module`` with the same arguments."""
    if not (TREE / module / "__main__.py").is_file():
        message = "the server is not installed here; run this in its source tree or image"
        typer.echo(f"stillhouse: {message}", err=True)
        raise typer.Exit(exits.USAGE)
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606  # becomes the server


def install(cli: typer.Typer) -> None:
    """Add the server's commands to ``cli``."""
    described = {
        "serve": "API and one worker on one data directory: everything, on this machine.",
        "api": "The REST API alone.",
        "migrate": "Bring the database up to date.",
        "doctor": "What is wrong with this installation, and how to mend it.",
    }
    for name, text in described.items():
        cli.command(name, help=text, context_settings=PASS_ON)(_runner("app", name))
    cli.command("worker", help="A worker alone.", context_settings=PASS_ON)(_runner("worker", None))


def _runner(module: str, command: str | None) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        hand_over(module, [*([command] if command else []), *context.args])

    return run
