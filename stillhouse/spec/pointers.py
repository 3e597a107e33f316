"""From pydantic's location of an error to an RFC 6901 pointer into what the person wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def pointer(location: Sequence[str | int], body: Any, *, missing: bool = False) -> str:
    """Without the tags that pydantic puts into the path of a union: a tag is a step that the body does not have.

    ``missing`` says that the last step is a field that was left out, and so is kept.
    """
    steps: list[str] = []
    value: Any = body
    for place, step in enumerate(location):
        if _has(value, step):
            value = value[step]
        elif not (missing and place == len(location) - 1):
            continue
        steps.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{step}" for step in steps)


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value
