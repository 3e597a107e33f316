"""``/v1/datasets``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.datasets import schemas
from app.datasets.service import DATASETS
from app.dependencies import Reader, ReadSession, ServicesDep, Writer, WriteSession
from stillhouse.assets import DataSet
from stillhouse.resources import Page

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])
AGAIN: dict[int | str, dict[str, Any]] = {200: {"model": DataSet, "description": "Already made of this upload"}}


@router.post("", status_code=201, responses=AGAIN)
def create_dataset(
    request: schemas.DataSetRequest, caller: Writer, session: WriteSession, given: ServicesDep, response: Response
) -> DataSet:
    """Make a data set of an upload. It is ``pending`` until a worker validates it."""
    declared = {"image_size": request.image_size}
    row, new = DATASETS.create(session, given, caller, name=request.name, upload=request.upload, declared=declared)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    return schemas.datasets(session, [row], caller.project)[0]


@router.get("")
def list_datasets(
    caller: Reader,
    session: ReadSession,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Page[DataSet]:
    """The project's data sets, newest first."""
    rows, following = DATASETS.find(session, caller, limit=limit, cursor=cursor)
    data = schemas.datasets(session, rows, caller.project)
    return Page(data=data, has_more=following is not None, next_cursor=following)


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, caller: Reader, session: ReadSession) -> DataSet:
    """A data set with its report."""
    return schemas.datasets(session, [DATASETS.get(session, caller, dataset_id)], caller.project)[0]


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, caller: Writer, session: WriteSession, given: ServicesDep) -> None:
    """Delete a data set with its files; refused while a job that has not ended uses it."""
    DATASETS.delete(session, given, caller, dataset_id)
