"""The register of workers, as a client sees it."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import func, select

from app import tables
from app.dependencies import Reader, ReadSession, ServicesDep
from app.lifecycle import fleet
from app.lifecycle.moves import HELD
from stillhouse.fleet import Worker
from stillhouse.resources import Page

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("")
def list_workers(_caller: Reader, session: ReadSession, given: ServicesDep) -> Page[Worker]:
    """Every worker that has been heard of lately, by name. They are the installation's, and serve every project."""
    held = select(tables.Job.lease_owner, func.count()).where(tables.Job.status.in_(HELD))
    running = {row[0]: row[1] for row in session.execute(held.group_by(tables.Job.lease_owner))}
    rows = session.scalars(select(tables.Worker).order_by(tables.Worker.name))
    lease = given.settings.lease_seconds
    data = [
        Worker(
            id=row.id,
            name=row.name,
            host=row.host,
            pid=row.pid,
            devices=row.devices,
            memory_bytes=row.memory_bytes,
            versions=row.versions,
            queues=row.queues,
            state=row.state,
            reason=row.reason,
            live=fleet.is_live(session, row, lease_seconds=lease),
            running=running.get(row.name, 0),
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
        )
        for row in rows
    ]
    return Page(data=data, has_more=False)
