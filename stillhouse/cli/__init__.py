"""The command ``stillhouse``."""

from __future__ import annotations

from stillhouse.cli.commands import main

__all__ = ["main"]
