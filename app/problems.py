"""Every error as RFC 9457 ``application/problem+json``, with the request's id."""

from __future__ import annotations

import http
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.db import full, unavailable
from app.errors import AppError, StorageError, Unavailable
from stillhouse.resources import FieldError, Problem
from stillhouse.spec.pointers import pointer
from stillhouse.spec.wording import message

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def install(app: FastAPI) -> None:
    """Give every kind of error its handler."""

    @app.exception_handler(AppError)
    def app_error(request: Request, error: AppError) -> JSONResponse:
        if isinstance(error, StorageError):
            request.app.state.services.measures.store_errors.inc()
        return problem(request, error.status, error.code, error.title, str(error), error.errors, dict(error.headers))

    @app.exception_handler(SQLAlchemyError)
    def database_error(request: Request, error: SQLAlchemyError) -> JSONResponse:
        if (known := _mendable(error)) is None:
            raise error  # a defect: the outermost middleware answers 500 and logs it
        logger.warning("%s: %s", known, error)
        return app_error(request, known)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(request, error)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        title = http.HTTPStatus(error.status_code).phrase
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        detail = f"{request.method} {request.url.path}: {title.lower()}"
        if error.status_code == 400:  # FastAPI's word for a body that it could not even decode
            code, title, detail = "malformed_json", "Malformed JSON", "the body is not valid JSON in UTF-8"
        return problem(request, error.status_code, code, title, detail, headers=dict(error.headers or {}))


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    if any(found["loc"][0] == "path" for found in error.errors()):  # nothing lies there, whatever else is wrong
        return problem(request, 404, "not_found", "Not found", f"there is no {request.url.path}")
    if isinstance(error.body, bytes):
        message = "send JSON with Content-Type: application/json"
        return problem(request, 415, "unsupported_media_type", "Unsupported media type", message)
    if any(found["type"] == "json_invalid" for found in error.errors()):
        why = str(error.errors()[0].get("ctx", {}).get("error", "not JSON"))
        return problem(request, 400, "malformed_json", "Malformed JSON", f"the body is not valid JSON: {why}")
    model = _model_of(request)
    errors = [field_error(found, error.body, model) for found in error.errors()]
    detail = "; ".join(f"{found.pointer}: {found.message}".removeprefix(": ") for found in errors[:5])
    return problem(request, 422, "invalid_spec", "Invalid request", detail, errors)


def _mendable(error: SQLAlchemyError) -> AppError | None:
    """What a caller, or whoever runs the service, can do about an error of the database."""
    if full(error):
        return StorageError("the database's disk is full; free some space, then send the same request again")
    if unavailable(error):
        return Unavailable("the database does not answer now; send the same request again")
    return None


def problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """One answer."""
    body = Problem(
        title=title, status=status, detail=detail, code=code, request_id=request.state.request_id, errors=list(errors)
    )
    return JSONResponse(body.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _model_of(request: Request) -> type[BaseModel] | None:
    """What the route's body is made into."""
    route = request.scope.get("route")
    expected = route.body_field.field_info.annotation if isinstance(route, APIRoute) and route.body_field else None
    return expected if isinstance(expected, type) and issubclass(expected, BaseModel) else None


def field_error(found: dict[str, Any], body: Any, model: type[BaseModel] | None) -> FieldError:
    """A pydantic error as one that points into the body; for a parameter the pointer is empty."""
    where, *location = found["loc"]
    if where != "body":
        said = f"{where} parameter {'.'.join(map(str, location))}: {message(found, location, None)}"
        return FieldError(pointer="", code=str(found["type"]), message=said)
    pointed = pointer(location, body, missing=found["type"] == "missing")
    return FieldError(pointer=pointed, code=str(found["type"]), message=message(found, location, model))
