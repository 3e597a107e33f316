"""The description of the API: FastAPI's own, with every error said as the problem it is."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.problems import MEDIA_TYPE
from stillhouse.resources import FieldError, Problem

_ERRORS = {
    400: "The body is not JSON",
    401: "No key, or one that is not known",
    403: "The key lacks the scope",
    404: "No such thing in this project",
    405: "Not with this method",
    409: "Not in this state",
    413: "The body or file is too large, or the project's quota is used up",
    422: "A field or parameter is not as it must be",
    500: "A defect in the service",
}
_UPLOADING = {
    409: "Another offset, or no longer an upload",
    412: "A version of tus that is not spoken here",
    415: "A piece of another media type",
    423: "Another request is writing",
    460: "The piece does not have the sha256 that was sent along",
    507: "No room, or no right to write",
}
_OPEN = ("/healthz", "/readyz")


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for model in (FieldError, Problem):
            schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas[model.__name__].pop("$defs", None)
        for path, methods in document["paths"].items():
            for operation in methods.values():
                _add_errors(operation, _ERRORS if path not in _OPEN else {500: _ERRORS[500]})
                if path.startswith("/v1/uploads"):
                    _add_errors(operation, _UPLOADING)
        app.openapi_schema = document
    return app.openapi_schema


def _add_errors(operation: dict[str, Any], errors: dict[int, str]) -> None:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, description in errors.items():
        operation["responses"][str(status)] = {"description": description, "content": content}
