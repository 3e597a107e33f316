"""The description of the API: FastAPI's own, with every error said as the problem it is."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi

from app.errors import Invalid, NotFound
from app.examples import EXAMPLES
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
    415: "The body is not declared as what is expected",
    422: "A field or parameter is not as it must be",
    429: "The project has as many waiting jobs as it may",
    500: "A defect in the service",
    503: "The database does not answer now; send the same request again",
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
_describing = threading.Lock()


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once, by one thread: FastAPI silences warnings of the whole process meanwhile."""
    with _describing:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for model in (FieldError, Problem):
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas[model.__name__].pop("$defs", None)
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            _add_errors(operation, _ERRORS if path not in _OPEN else {500: _ERRORS[500]})
            if path.startswith("/v1/uploads"):
                _add_errors(operation, _UPLOADING)
    return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter may be left out; it cannot be null, as FastAPI has it for ``X | None``."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return {**choices[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def only_described_parameters(request: Request) -> None:
    """Refuse a query parameter that the description does not name: a misspelt filter would silently filter nothing."""
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    known = [parameter for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    plain = {parameter["name"] for parameter in known if parameter.get("style") != "deepObject"}
    deep = tuple(f"{parameter['name']}[" for parameter in known if parameter.get("style") == "deepObject")
    if "\x00" in request.url.path:
        raise NotFound("no such thing: its name holds a NUL")
    for name, value in request.query_params.multi_items():
        if "\x00" in value:
            raise Invalid(f"query parameter {name!r} holds a NUL, which no text here does")
        if name not in plain and not (deep and name.startswith(deep) and name.endswith("]")):
            offered = sorted(plain | {f"{prefix}…]" for prefix in deep})
            takes = f"this one takes {', '.join(offered)}" if offered else "this one takes none"
            raise Invalid(f"no query parameter is called {name!r}; {takes}", code="unknown_parameter")


def _add_errors(operation: dict[str, Any], errors: dict[int, str]) -> None:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, description in errors.items():
        operation["responses"][str(status)] = {"description": description, "content": content}
