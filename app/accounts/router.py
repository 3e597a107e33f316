"""API keys, for keys with the scope ``admin``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.accounts import service
from app.accounts.schemas import KeyRequest
from app.auth import Caller
from app.dependencies import Admin, ReadSession, WriteSession
from app.errors import Forbidden
from stillhouse.resources import ApiKey, NewApiKey, Page

router = APIRouter(prefix="/v1/api-keys", tags=["api keys"])


@router.post("", status_code=201)
def create_key(request: KeyRequest, caller: Admin, session: WriteSession) -> NewApiKey:
    """Make a key; its secret is shown this once. With an operator's key also of another project, made if need be."""
    project = _project(caller, request.project)
    return service.create(session, project=project, name=request.name, scopes=request.scopes)


@router.get("")
def list_keys(
    caller: Admin,
    session: ReadSession,
    project: Annotated[str | None, Query(max_length=64, description="Another's, for an operator's key.")] = None,
) -> Page[ApiKey]:
    """The project's keys, revoked ones included."""
    return Page(data=service.find_all(session, project=_project(caller, project)), has_more=False)


@router.delete("/{key_id}", status_code=204)
def revoke_key(key_id: str, caller: Admin, session: WriteSession) -> None:
    """Revoke a key. Refused for the calling key itself and for the last admin key."""
    service.revoke(session, key_id, caller=caller)


def _project(caller: Caller, named: str | None) -> str:
    """The project that is meant. Raises Forbidden for another than the caller's, unless an operator asks."""
    if named is None or named == caller.project:
        return caller.project
    if not caller.is_operator:
        raise Forbidden(f"this key is of the project {caller.project}; for another use an operator's key")
    return named
