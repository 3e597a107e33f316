"""Logs: text for people, or one JSON object a line; each record carries the ids of what it happened in."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

_ids: ContextVar[Mapping[str, object]] = ContextVar("ids", default=MappingProxyType({}))


def bind(**ids: object) -> None:
    """From here on, in this task, records carry these ids too."""
    _ids.set({**_ids.get(), **ids})


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Within it, records carry these ids too."""
    token = _ids.set({**_ids.get(), **ids})
    try:
        yield
    finally:
        _ids.reset(token)


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, the process's part, the ids, and a traceback if there is one."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": self._part,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(part: str, *, form: Literal["text", "json"], level: int) -> None:
    """Set the root logger up. In JSON every request is told of, so the level is INFO at least."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonLines(part))
        level = min(level, logging.INFO)
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {part} %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
