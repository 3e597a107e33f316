"""Validating what was uploaded: a job of another kind, so that claim, lease, fence and upkeep are those of jobs.

A data set or model has no state of its own while it is validated: its state is read off the validation's job, and
its verdict is written in the transaction that ends the job. So the two can never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import now
from app.lifecycle.settle import succeed
from app.tables import DataSet, Job, Model, Upload
from stillhouse.spec.reasons import REASONS

State = Literal["pending", "validating", "ready", "rejected"]
Asset = DataSet | Model
QUEUE = "default"


def begin(session: Session, asset: Asset) -> None:
    """Queue the validation of a new data set or model."""
    job = Job(
        id=asset.job_id,
        project_id=asset.project_id,
        kind="validation",
        name=asset.name,
        spec={"asset": asset.id},
        queue=QUEUE,
        priority=0,
        status="queued",
        created_at=asset.created_at,
    )
    session.add(job)


def asset_of(session: Session, job: Job) -> Asset:
    """What a validation is about."""
    asset_id = str(job.spec["asset"])
    if asset_id.startswith("ds_"):
        return session.get_one(DataSet, asset_id)
    return session.get_one(Model, asset_id)


def conclude(
    session: Session,
    job: Job,
    *,
    report: Mapping[str, Any],
    facts: Mapping[str, Any] | None,
    files: Mapping[str, Mapping[str, Any]],
    max_losses: int,
) -> list[str]:
    """Write the verdict and end the validation. ``job`` comes from ``held``; without facts the asset is rejected.

    Returns the keys of files that are not needed: the project has the same bytes already.
    """
    asset = asset_of(session, job)
    needed = _shared(session, asset, files)
    asset.accepted = facts is not None
    asset.facts = None if facts is None else dict(facts)
    asset.report, asset.files = dict(report), needed
    asset.bytes = sum(int(file["bytes"]) for file in files.values())
    asset.finished_at = now(session)
    upload = session.get(Upload, asset.upload_id)
    if upload is not None:
        session.delete(upload)
    succeed(session, job, result={"accepted": asset.accepted}, artifacts=[], max_losses=max_losses)
    return sorted({file["key"] for file in files.values()} - {file["key"] for file in needed.values()})


def _shared(session: Session, asset: Asset, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``files``, with the keys of those that another asset of the project holds already, byte for byte.

    That one stays locked until the commit, so it cannot be deleted without this one being seen.
    """
    table, own = type(asset), {name: dict(file) for name, file in files.items()}
    largest = max(own, key=lambda name: int(own[name]["bytes"]), default="")
    accepted = select(table.id, table.files).where(
        table.project_id == asset.project_id, table.id != asset.id, table.accepted.is_(True)
    )
    for other, theirs in session.execute(accepted).all() if largest else ():
        if (theirs or {}).get(largest, {}).get("sha256") != own[largest]["sha256"]:
            continue
        twin = cast("Asset | None", session.get(table, other, with_for_update=True, populate_existing=True))
        if twin is not None:
            asset.content_of = twin.content_of or twin.id
            owned = f"{table.__tablename__}/{asset.content_of}/"
            return own | {
                name: file
                for name, file in (twin.files or {}).items()
                if name in own and file["sha256"] == own[name]["sha256"] and file["key"].startswith(owned)
            }
    return own


def jobs_of(session: Session, assets: list[Asset]) -> dict[str, Job]:
    """The validations of ``assets``, by id."""
    found = session.scalars(select(Job).where(Job.id.in_([asset.job_id for asset in assets])))
    return {job.id: job for job in found}


def state_of(asset: Asset, job: Job | None) -> State:
    """Where an asset stands."""
    if asset.accepted is not None:
        return "ready" if asset.accepted else "rejected"
    if job is None or job.status == "failed":
        return "rejected"
    return "pending" if job.status == "queued" else "validating"


def report_of(asset: Asset, job: Job | None) -> dict[str, Any] | None:
    """The verdict's reasons; also when the validation itself failed, through no verdict on the file."""
    if asset.report is not None or state_of(asset, job) != "rejected":
        return asset.report
    reason = job.status_reason if job is not None else None
    detail = (job.status_detail if job is not None else None) or "the validation is gone"
    remedy = REASONS[reason].remedy if reason in REASONS else "Upload it again."
    return {"problems": [f"the validation could not be done ({reason or 'internal'}): {detail}. {remedy}"]}
