"""What a job leaves behind: events, metrics, logs, attempts, checkpoints, files."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from sqlalchemy import select

from app.dependencies import Reader, ReadSession, ServicesDep
from app.errors import Invalid, NotFound, OtherVersion, RangeNotSatisfiable
from app.jobs import metrics, schemas, service
from app.jobs.stream import Tailer
from app.tables import Artifact, Attempt, Checkpoint, Event, Job, LogChunk
from stillhouse import resources
from stillhouse.resources import Page

router = APIRouter(prefix="/v1", tags=["records"])

_LOG_PIECE = 2**20
_LARGEST = 2**31 - 1
"""Of a sequence number or an offset, as the database holds it."""
Offset = Annotated[int, Query(ge=0, le=_LARGEST, description="In bytes.")]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "A page, or the stream"}
}
_FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_FILE_HEADERS = {
    "ETag": {"description": "The hex sha256, in quotes.", "schema": {"type": "string"}},
    "Repr-Digest": {"description": "The sha256 (RFC 9530).", "schema": {"type": "string"}},
}
_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": _FILE, "description": "The file", "headers": _FILE_HEADERS},
    206: {"content": _FILE, "description": "The bytes asked for by Range", "headers": _FILE_HEADERS},
    304: {"description": "The same as If-None-Match names"},
    307: {
        "description": "The file lies in an S3 store: fetch it there, without the key, within ten minutes",
        "headers": {**_FILE_HEADERS, "Location": {"description": "A link.", "schema": {"type": "string"}}},
    },
    412: _PROBLEM | {"description": "Another file than If-Match names"},
    416: _PROBLEM | {"description": "Range lies outside the file"},
}
_LOG: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "A piece of the log",
        "headers": {"Log-Next-Offset": {"description": "Where to go on.", "schema": {"type": "integer"}}},
    }
}
_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "name, step, time, value"}
}


@router.get("/jobs/{job_id}/events", response_model=Page[resources.Event], responses=_STREAM)
def job_events(
    job_id: str,
    request: Request,
    caller: Reader,
    session: ReadSession,
    after_seq: Annotated[int, Query(ge=0, le=_LARGEST)] = 0,
    cursor: Annotated[int | None, Query(ge=0, le=_LARGEST, description="A page's next_cursor.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    last_event_id: Annotated[str | None, Header(description="Where a stream goes on.")] = None,
) -> Page[resources.Event] | StreamingResponse:
    """Events in order; with ``Accept: text/event-stream`` they are followed live until the job has ended."""
    service.get(session, caller, job_id)
    if "text/event-stream" in request.headers.get("Accept", ""):
        after = after_seq if last_event_id is None else _sequence(last_event_id)
        tailer: Tailer = request.app.state.tailer
        return StreamingResponse(tailer.follow(job_id, after), media_type="text/event-stream")
    rows = (
        select(Event)
        .where(Event.job_id == job_id, Event.seq > (after_seq if cursor is None else cursor))
        .order_by(Event.seq)
        .limit(limit + 1)
    )
    found = list(session.scalars(rows))
    more = len(found) > limit
    page = found[:limit]
    return Page(
        data=[schemas.event(row) for row in page], has_more=more, next_cursor=str(page[-1].seq) if more else None
    )


def _sequence(last_event_id: str) -> int:
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 9:
        raise Invalid("Last-Event-ID must be the id of an event of this stream, a number")
    return int(last_event_id)


@router.get("/jobs/{job_id}/metrics")
def job_metrics(
    job_id: str,
    caller: Reader,
    session: ReadSession,
    names: Annotated[list[str] | None, Query(description="Only these; repeat it, or separate by commas.")] = None,
    max_points: Annotated[int, Query(ge=2, le=5000)] = 1000,
) -> resources.Metrics:
    """Metrics in columns, down-sampled to the least and greatest value of each bucket."""
    service.get(session, caller, job_id)
    wanted = [name for given in names or [] for name in given.split(",") if name]
    return metrics.read(session, job_id, names=wanted, max_points=max_points)


@router.get("/jobs/{job_id}/metrics.csv", response_class=Response, responses=_CSV)
def job_metrics_csv(job_id: str, caller: Reader, session: ReadSession) -> Response:
    """Every point of every metric."""
    service.get(session, caller, job_id)
    return Response(metrics.write_csv(session, job_id), media_type="text/csv; charset=utf-8")


@router.get("/jobs/{job_id}/logs", response_class=Response, responses=_LOG)
def job_logs(
    job_id: str,
    caller: Reader,
    session: ReadSession,
    offset: Offset = 0,
) -> Response:
    """What the children printed, from ``offset``; the header ``Log-Next-Offset`` says where to go on."""
    service.get(session, caller, job_id)
    chunks = select(LogChunk).where(LogChunk.job_id == job_id, LogChunk.offset >= offset).order_by(LogChunk.offset)
    before = select(LogChunk).where(LogChunk.job_id == job_id, LogChunk.offset < offset)
    first = session.scalar(before.order_by(LogChunk.offset.desc()).limit(1))
    text = b"" if first is None else first.text.encode()[offset - first.offset :]
    for chunk in session.scalars(chunks.execution_options(yield_per=50)):
        if len(text) >= _LOG_PIECE:
            break
        text += chunk.text.encode()
    return Response(text, media_type="text/plain; charset=utf-8", headers={"Log-Next-Offset": str(offset + len(text))})


@router.get("/jobs/{job_id}/attempts")
def job_attempts(job_id: str, caller: Reader, session: ReadSession) -> Page[resources.Attempt]:
    """Every attempt, the first one first."""
    service.get(session, caller, job_id)
    rows = session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.n))
    return Page(data=[schemas.attempt(row) for row in rows], has_more=False)


@router.get("/jobs/{job_id}/checkpoints")
def job_checkpoints(job_id: str, caller: Reader, session: ReadSession) -> Page[resources.Checkpoint]:
    """Every checkpoint that is kept, newest first."""
    service.get(session, caller, job_id)
    rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id.desc()))
    return Page(data=[schemas.checkpoint(row) for row in rows], has_more=False)


@router.get("/jobs/{job_id}/artifacts")
def job_artifacts(job_id: str, caller: Reader, session: ReadSession) -> Page[resources.Artifact]:
    """The files of a finished job."""
    service.get(session, caller, job_id)
    rows = session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name))
    return Page(data=[schemas.artifact(row) for row in rows], has_more=False)


@router.head("/artifacts/{artifact_id}/content", response_class=FileResponse, responses=_BYTES)
@router.get("/artifacts/{artifact_id}/content", response_class=FileResponse, responses=_BYTES)
def artifact_content(  # noqa: PLR0913, PLR0917  # each is a documented header
    artifact_id: str,
    request: Request,
    caller: Reader,
    session: ReadSession,
    given: ServicesDep,
    if_match: Annotated[str | None, Header(description="An ETag: 412 when the file is another.")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header(description="An ETag; when it differs Range is passed over.")] = None,
    range_: Annotated[str | None, Header(alias="Range", description="bytes=FIRST-LAST")] = None,
) -> Response:
    """A file's bytes, or where they are. Takes Range; ``ETag`` is the sha256 in quotes."""
    owned = select(Artifact).join(Job).where(Artifact.id == artifact_id, Job.project_id == caller.project_id)
    row = session.scalar(owned)
    path = given.storage.local_path(row.key) if row is not None else None
    if row is None or (path is not None and not path.is_file()):
        raise NotFound(f"no artifact {artifact_id}")
    tag = f'"{row.sha256}"'
    headers = {
        "ETag": tag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(row.sha256)).decode()}:",
        "Content-Disposition": f'attachment; filename="{row.name}"',
        "Cache-Control": "private, no-cache",
    }
    if if_match is not None and not {tag, "*"} & _tags(if_match):  # strong: a weak tag is never the same bytes
        raise OtherVersion(f"this file is {tag}, and If-Match asks for another; leave it out to have this one")
    if if_none_match is not None and {tag, "*"} & {named.removeprefix("W/") for named in _tags(if_none_match)}:
        return Response(status_code=304, headers=headers)
    if range_ is not None and if_range in (None, tag):
        _check_range(range_, row.bytes)
    if path is not None:
        return FileResponse(path, media_type=row.media_type, headers=headers)
    if request.method == "HEAD":
        known = {"Content-Length": str(row.bytes), "Accept-Ranges": "bytes"}
        return Response(media_type=row.media_type, headers=headers | known)
    return RedirectResponse(given.storage.link(row.key), headers=headers | {"Cache-Control": "no-store"})


def _tags(header: str) -> set[str]:
    """Those that a header lists."""
    return {named.strip() for named in header.split(",")}


def _check_range(wanted: str, size: int) -> None:
    """Raise RangeNotSatisfiable unless each range begins within ``size`` bytes and ends where it begins, or later."""
    unit, _, listed = wanted.replace(" ", "").partition("=")
    for each in listed.rstrip(",").split(","):
        match = re.fullmatch(r"(\d{1,18})-(\d{0,18})|-([1-9]\d{0,17})", each)
        first = int((match and match[1]) or 0)
        if unit != "bytes" or match is None or not first < size or int(match[2] or size) < first:
            raise RangeNotSatisfiable(f"Range {wanted[:100]!r} names no bytes of this file, which holds {size}")
