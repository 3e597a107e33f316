"""``/v1/models``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.dependencies import Reader, ReadSession, ServicesDep, Writer, WriteSession
from app.models import schemas
from app.models.service import MODELS, check_dataset
from stillhouse.assets import Model
from stillhouse.resources import Page

router = APIRouter(prefix="/v1/models", tags=["models"])
AGAIN: dict[int | str, dict[str, Any]] = {200: {"model": Model, "description": "Already made of this upload"}}


@router.post("", status_code=201, responses=AGAIN)
def create_model(
    request: schemas.ModelRequest, caller: Writer, session: WriteSession, given: ServicesDep, response: Response
) -> Model:
    """Make a model of an upload. It is ``pending`` until a worker validates it."""
    if request.dataset is not None:
        check_dataset(session, caller, request.dataset, classes=len(request.classes))
    declared = request.model_dump(exclude={"name", "upload"})
    row, new = MODELS.create(session, given, caller, name=request.name, upload=request.upload, declared=declared)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/models/{row.id}"
    return schemas.models(session, [row], caller.project)[0]


@router.get("")
def list_models(
    caller: Reader, session: ReadSession, limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: str | None = None
) -> Page[Model]:
    """The project's models, newest first."""
    rows, following = MODELS.find(session, caller, limit=limit, cursor=cursor)
    shown = schemas.models(session, rows, caller.project)
    return Page(data=shown, has_more=following is not None, next_cursor=following)


@router.get("/{model_id}")
def get_model(model_id: str, caller: Reader, session: ReadSession) -> Model:
    """A model with its report."""
    return schemas.models(session, [MODELS.get(session, caller, model_id)], caller.project)[0]


@router.delete("/{model_id}", status_code=204)
def delete_model(model_id: str, caller: Writer, session: WriteSession, given: ServicesDep) -> None:
    """Delete a model with its files; refused while a job that has not ended uses it."""
    MODELS.delete(session, given, caller, model_id)
