"""``/v1/uploads``: tus 1.0 with creation (with upload), checksum (sha256), expiration and termination."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from app.auth import Caller
from app.dependencies import ReadSession, ServicesDep, Writer, WriteSession, requires
from app.errors import WrongMediaType, WrongProtocol
from app.uploads import schemas, service
from stillhouse.assets import Upload

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

STREAMED = re.compile(r"PATCH /v1/uploads/[^/]+|POST /v1/uploads")
"""Method and path whose body is read as it comes."""

_BYTES = {schemas.PIECE_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_PIECE: dict[str, Any] = {"requestBody": {"required": True, "content": _BYTES}}
_FIRST_PIECE: dict[str, Any] = {"requestBody": {"required": False, "content": _BYTES}}

Digest = Annotated[str | None, Header(description="'sha256', then the piece's digest in base64.")]


def _speaker(caller: Writer, tus_resumable: Annotated[str | None, Header(description="1.0.0")] = None) -> Caller:
    if tus_resumable != schemas.VERSION:
        raise WrongProtocol(f"send Tus-Resumable: {schemas.VERSION}")
    return caller


Speaker = Annotated[Caller, Depends(_speaker)]


@router.options("", status_code=204, dependencies=[Depends(requires("jobs:read"))])
def upload_options(given: ServicesDep, response: Response) -> None:
    """What this server speaks."""
    response.headers.update(
        {
            "Tus-Resumable": schemas.VERSION,
            "Tus-Version": schemas.VERSION,
            "Tus-Extension": schemas.EXTENSIONS,
            "Tus-Checksum-Algorithm": schemas.ALGORITHMS,
            "Tus-Max-Size": str(given.settings.upload_limit_bytes),
        }
    )


def _is_piece(request: Request) -> bool:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind == schemas.PIECE_TYPE


@router.post("", status_code=201, openapi_extra=_FIRST_PIECE)
async def create_upload(
    request: Request,
    caller: Speaker,
    given: ServicesDep,
    response: Response,
    upload_length: Annotated[str | None, Header(description="The file's size in bytes.")] = None,
    upload_metadata: Annotated[str, Header(description="Kept, and said again by HEAD.")] = "",
    upload_checksum: Digest = None,
) -> Upload:
    """Begin an upload; its address is in ``Location``. The body may be the first piece, or all of the file; one that
    is refused leaves no upload behind.
    """
    row = await service.begin(
        given,
        caller,
        length=schemas.length(upload_length),
        metadata=upload_metadata,
        body=request.stream() if _is_piece(request) else None,
        checksum=schemas.checksum(upload_checksum),
    )
    response.headers.update({**schemas.progress(row), "Location": f"/v1/uploads/{row.id}"})
    return schemas.upload(row)


@router.head("/{upload_id}")
def upload_progress(upload_id: str, caller: Speaker, session: ReadSession, response: Response) -> None:
    """How much has arrived."""
    response.headers.update(schemas.progress(service.get(session, caller, upload_id)))


@router.patch("/{upload_id}", status_code=204, openapi_extra=_PIECE)
async def append_to_upload(
    upload_id: str,
    request: Request,
    caller: Speaker,
    given: ServicesDep,
    response: Response,
    upload_offset: Annotated[str | None, Header(description="Where this piece belongs.")] = None,
    upload_checksum: Digest = None,
) -> None:
    """The next piece. What has arrived of one without a checksum is kept, even when the connection is cut."""
    if not _is_piece(request):
        raise WrongMediaType(f"send a piece as Content-Type: {schemas.PIECE_TYPE}")
    row = await service.append(
        given,
        caller,
        upload_id,
        offset=schemas.offset(upload_offset),
        body=request.stream(),
        checksum=schemas.checksum(upload_checksum),
    )
    response.headers.update(schemas.progress(row))


@router.delete("/{upload_id}", status_code=204)
def delete_upload(upload_id: str, caller: Speaker, session: WriteSession, given: ServicesDep) -> None:
    """Throw an upload away."""
    service.delete(session, given, caller, upload_id)
