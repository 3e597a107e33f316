"""A JSON body in which a key stands twice. JSON would take the last one in silence; whoever sent it is told instead."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute

from app.errors import Invalid
from stillhouse.resources import FieldError
from stillhouse.spec.pointers import pointer

_SHOWN = 5


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys were given more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]


async def no_key_twice(request: Request) -> None:
    """Raise Invalid with a pointer to each key that a JSON body gives twice. A route without one is not looked at."""
    route = request.scope["route"]
    if not isinstance(route, APIRoute) or route.body_field is None:
        return
    try:
        body = json.loads(await request.body(), object_pairs_hook=_Object)
    except ValueError:
        return  # FastAPI says what it is not
    found = _twice(body)
    if found:
        errors = [
            FieldError(pointer=pointed, code="given_twice", message="this key is given twice; leave one of them out")
            for pointed in found
        ]
        detail = "; ".join(f"{error.pointer}: {error.message}" for error in errors[:_SHOWN])
        raise Invalid(detail, errors=errors)


def _twice(body: Any) -> list[str]:
    """Pointers, the outermost first; not by recursion, since a body may be nested deeper than Python goes."""
    found: list[str] = []
    waiting: deque[tuple[list[str | int], Any]] = deque([([], body)])
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, _Object):
            found += [pointer([*path, key], body) for key in value.twice]
            waiting += [([*path, key], inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [([*path, index], inner) for index, inner in enumerate(value)]
    return found
