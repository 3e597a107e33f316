"""API keys, for keys with the scope ``admin``."""

from __future__ import annotations

from fastapi import APIRouter

from app.accounts import service
from app.accounts.schemas import KeyRequest
from app.dependencies import Admin, ReadSession, WriteSession
from stillhouse.resources import ApiKey, NewApiKey, Page

router = APIRouter(prefix="/v1/api-keys", tags=["api keys"])


@router.post("", status_code=201)
def create_key(request: KeyRequest, caller: Admin, session: WriteSession) -> NewApiKey:
    """Make a key for the caller's project. Its secret is shown this once."""
    return service.create(session, project=caller.project, name=request.name, scopes=request.scopes)


@router.get("")
def list_keys(caller: Admin, session: ReadSession) -> Page[ApiKey]:
    """The project's keys, revoked ones included."""
    return Page(data=service.find_all(session, project_id=caller.project_id), has_more=False)


@router.delete("/{key_id}", status_code=204)
def revoke_key(key_id: str, caller: Admin, session: WriteSession) -> None:
    """Revoke a key. Refused for the calling key itself and for the last admin key."""
    service.revoke(session, key_id, caller=caller)
