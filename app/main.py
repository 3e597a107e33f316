"""The application: the only file that names every feature."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from anyio import to_thread
from fastapi import Depends, FastAPI
from sqlalchemy.exc import SQLAlchemyError

from app import openapi, problems
from app.accounts import router as accounts
from app.catalog import router as catalog
from app.config import Settings
from app.datasets import router as datasets
from app.db import Database
from app.dependencies import Services
from app.errors import StorageError
from app.health import router as health
from app.jobs import records
from app.jobs import router as jobs
from app.jobs.stream import Tailer
from app.lifecycle.garbage import collect, expire_checkpoints
from app.lifecycle.upkeep import sweep
from app.lifecycle.uploads import expire
from app.middleware import RequestGuard
from app.models import router as models
from app.queue import Doorbell, create_celery
from app.storage import open_storage
from app.uploads import router as uploads

logger = logging.getLogger(__name__)


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
        dependencies=[Depends(openapi.only_described_parameters)],
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
    for feature in (jobs, records, uploads, datasets, models, catalog, accounts, health):
        app.include_router(feature.router)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    stopping = asyncio.Event()
    upkeep = asyncio.create_task(_upkeep(services, stopping))
    yield
    stopping.set()  # no cancellation: its thread would go on with a connection that nobody closes
    await upkeep
    services.database.dispose()


async def _upkeep(services: Services, stopping: asyncio.Event) -> None:
    """End expired leases and uploads and collect garbage until the end; what is down is met with patience."""
    settings = services.settings
    collect_at = time.monotonic()
    while not stopping.is_set():
        try:
            await to_thread.run_sync(lambda: sweep(services.database, max_losses=settings.max_losses))
            await to_thread.run_sync(expire, services.database, services.storage)
            await to_thread.run_sync(_expire_checkpoints, services)
            if time.monotonic() >= collect_at:
                collect_at = time.monotonic() + settings.garbage_seconds
                await to_thread.run_sync(collect, services.database, services.storage)
        except (SQLAlchemyError, StorageError) as error:
            logger.warning("the upkeep failed; it tries again in %s s: %s", settings.upkeep_seconds, error)
        except Exception:
            logger.exception("the upkeep failed; it tries again in %s s", settings.upkeep_seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), settings.upkeep_seconds)


def _expire_checkpoints(services: Services) -> None:
    keep = services.settings.checkpoint_keep_seconds
    expire_checkpoints(services.database, services.storage, keep_seconds=keep)
