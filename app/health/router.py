"""Liveness and readiness; neither needs a key."""

from __future__ import annotations

import shutil
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.dependencies import Services, ServicesDep
from app.errors import StorageError

router = APIRouter(tags=["health"])

_LEAST_FREE_BYTES = 100 * 2**20


class Health(BaseModel):
    """This process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether jobs can be taken; each part is ``ok`` or says what is wrong."""

    ready: bool
    parts: dict[str, str]


@router.get("/healthz")
def healthz() -> Health:
    """Alive."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready: the parts say why."}})
def readyz(given: ServicesDep, response: Response) -> Readiness:
    """Ready to take jobs: the database answers and is migrated, the store can be reached, the disk has room.

    A broker that is down is told of and costs no readiness: jobs are taken, and free workers look for them.
    """
    needed = {"database": _database(given), "storage": _storage(given), "disk": _disk(given)}
    ready = all(state == "ok" for state in needed.values())
    parts = {**needed, "broker": given.doorbell.complaint() or "ok"}
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, parts=parts)


def _database(given: Services) -> str:
    try:
        with given.database.reading() as session:
            session.execute(text("SELECT 1 FROM jobs LIMIT 1"))
    except SQLAlchemyError as error:
        return f"{type(error).__name__}; check STILLHOUSE_DATABASE_URL, and run: stillhouse migrate"
    return "ok"


def _storage(given: Services) -> str:
    try:
        given.storage.check()
    except StorageError as error:
        return str(error)
    return "ok"


def _disk(given: Services) -> str:
    try:
        free = shutil.disk_usage(given.settings.data_dir).free
    except OSError as error:
        return f"{error.strerror}: {given.settings.data_dir}"
    return "ok" if free >= _LEAST_FREE_BYTES else f"only {free // 2**20} MiB free; make room"
