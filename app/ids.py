"""Identifiers: a prefix that says what it is, then a time-ordered ULID."""

from __future__ import annotations

from typing import Literal

from ulid import ULID

Prefix = Literal["job", "evt", "ckpt", "art", "key", "prj", "upl", "ds", "mdl", "val", "wrk"]


def new_id(prefix: Prefix) -> str:
    """``job_01k…``: greppable, and sorting by it sorts by time."""
    return f"{prefix}_{str(ULID()).lower()}"
