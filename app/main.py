"""The application: the only file that names every feature."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI

from app import openapi, problems
from app.accounts import projects
from app.accounts import router as accounts
from app.bodies import no_key_twice
from app.catalog import router as catalog
from app.chores import keep_up
from app.config import Settings
from app.datasets import router as datasets
from app.db import Database
from app.dependencies import Services
from app.fleet import router as fleet
from app.health import router as health
from app.jobs import records
from app.jobs import router as jobs
from app.jobs.stream import Tailer
from app.middleware import RequestGuard
from app.models import router as models
from app.monitoring import router as monitoring
from app.observer import Observer
from app.queue import Doorbell, create_celery
from app.storage import open_storage
from app.uploads import router as uploads


def create_app(settings: Settings, *, doorbell: Doorbell | None = None) -> FastAPI:
    """The REST API over ``settings``. ``doorbell`` may be another one, in tests."""
    database = Database(settings.database_url)
    app = FastAPI(
        title="Stillhouse",
        version=version("stillhouse"),
        description="Knowledge distillation as a service.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        dependencies=[Depends(openapi.only_described_parameters), Depends(no_key_twice)],
    )
    app.state.services = Services(
        settings=settings,
        database=database,
        storage=open_storage(
            settings.storage_url,
            patience_seconds=settings.storage_patience_seconds,
            public_endpoint=settings.storage_public_endpoint,
        ),
        doorbell=doorbell or Doorbell(create_celery(settings)),
    )
    app.state.tailer = Tailer(database)
    problems.install(app)
    app.add_middleware(RequestGuard, body_limit=settings.body_limit_bytes, streamed=uploads.STREAMED)
    app.add_middleware(Observer, measures=app.state.services.measures)
    for feature in (jobs, records, uploads, datasets, models, catalog, accounts, projects, fleet, monitoring, health):
        app.include_router(feature.router)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    stopping = asyncio.Event()
    upkeep = asyncio.create_task(keep_up(services, stopping))
    yield
    stopping.set()  # no cancellation: its thread would go on with a connection that nobody closes
    await upkeep
    await app.state.tailer.close()
    services.database.dispose()
