"""What routes ask for: a session, the caller, the services of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.auth import Caller, Scope, authenticate, record_use
from app.config import Settings
from app.db import Database
from app.measures import Measures
from app.queue import Doorbell
from app.storage import Storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """What this process was built with."""

    settings: Settings
    database: Database
    storage: Storage
    doorbell: Doorbell
    measures: Measures = field(default_factory=Measures)


def services(request: Request) -> Services:
    """The services the application was created with."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services)]


def _writing(given: ServicesDep) -> Iterator[Session]:
    with given.database.transaction() as session:
        yield session


def _reading(given: ServicesDep) -> Iterator[Session]:
    with given.database.reading() as session:
        yield session


# With function scope the commit comes before the response; by default FastAPI would answer first and commit then.
WriteSession = Annotated[Session, Depends(_writing, scope="function")]
ReadSession = Annotated[Session, Depends(_reading, scope="function")]

_bearer = HTTPBearer(auto_error=False, description="An API key: sk_…")


def requires(scope: Scope) -> Callable[..., Caller]:
    """A dependency that lets only keys with ``scope`` pass."""

    def caller(request: Request, given: ServicesDep, _documented: Annotated[object, Depends(_bearer)]) -> Caller:
        with given.database.reading() as session:
            accepted, use_is_news = authenticate(session, request.headers.get("Authorization"))
        accepted.require(scope)
        if use_is_news:
            try:
                with given.database.transaction() as session:
                    record_use(session, accepted.key_id)
            except SQLAlchemyError as error:  # a note of a use is not worth a refused request
                logger.warning("could not note the use of %s: %s", accepted.key_id, error)
        return accepted

    return caller


Reader = Annotated[Caller, Depends(requires("jobs:read"))]
Writer = Annotated[Caller, Depends(requires("jobs:write"))]
Admin = Annotated[Caller, Depends(requires("admin"))]
