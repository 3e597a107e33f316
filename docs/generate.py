"""``make docs``: the reference pages, from the code they describe. A test holds the pages to it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer.main
from typer.cli import get_docs_for_click
from typer.core import TyperGroup

from app.__main__ import cli as server_cli
from app.config import Settings
from app.main import create_app
from stillhouse.cli.commands import cli
from stillhouse.spec import REASONS, JobSpec

FOLDER = Path(__file__).with_name("reference")
_BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "minLength": "length ≥",
    "maxLength": "length ≤",
    "minItems": "items ≥",
    "maxItems": "items ≤",
    "maxProperties": "pairs ≤",
}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


def spec() -> str:
    """Every model of the job spec, field by field."""
    schema = JobSpec.model_json_schema()
    parts = [
        "# The job spec\n\nJSON or YAML. Unknown fields are refused; every default is filled in when a job is stored."
    ]
    for name, model in {"JobSpec": schema, **schema["$defs"]}.items():
        text = model.get("description", "").strip().replace("``", "`")
        parts.append(f"## {name}" + (f"\n\n{text}" if text else ""))
        required = model.get("required", ())
        rows = [
            (f"`{field}`", _type(shape), _default(shape, needed=field in required), shape.get("description", ""))
            for field, shape in model["properties"].items()
        ]
        parts.append(_table(("field", "type", "default", "meaning"), rows))
    return _page(parts)


def rest() -> str:
    """Every route, as the API describes itself."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        paths = app.openapi()["paths"]
        app.state.services.database.dispose()
    rows = [
        (f"`{method.upper()} {path}`", operation.get("description", operation["summary"]))
        for path, item in paths.items()
        for method, operation in item.items()
    ]
    intro = (
        "# The REST API\n\n`/openapi.json` describes every field and answer. Send `Authorization: Bearer sk_…`; errors "
        "are `application/problem+json` (RFC 9457) with `code`, `request_id` and `errors: [{pointer, code, message}]`. "
        "`/v1/uploads` speaks tus 1.0.0: each of its requests sends `Tus-Resumable: 1.0.0`."
    )
    return _page([intro, _table(("route", "what it does"), rows)])


def reasons() -> str:
    """The total table of reasons."""
    rows = [
        (f"`{name}`", reason.fault, "yes" if reason.retryable else "no", reason.status, reason.remedy)
        for name, reason in REASONS.items()
    ]
    intro = (
        "# Why a job is where it is\n\n`status_reason` is an open set: a client must expect reasons that are not here "
        "yet. *Fault* says whose it is, *retried* whether the service tries again by itself."
    )
    return _page([intro, _table(("reason", "fault", "retried", "status", "what to do"), rows)])


def settings() -> str:
    """Every setting of API and worker."""
    schema = Settings.model_json_schema()["properties"]
    rows = [
        (f"`STILLHOUSE_{name.upper()}`", _default(shape, needed=False), shape.get("description", ""))
        for name, shape in schema.items()
    ]
    intro = (
        "# Settings\n\nEnvironment variables of `serve`, `api` and `worker`. The embedded default needs none of them."
    )
    return _page([intro, _table(("variable", "default", "meaning"), rows)])


def command() -> str:
    """The command line, from its own help."""
    everything, server = typer.main.get_command(cli), typer.main.get_command(server_cli)
    assert isinstance(everything, TyperGroup)
    assert isinstance(server, TyperGroup)
    own = [name for name in server.commands if name != "keys"]
    everything.commands = {
        name: one for name, one in everything.commands.items() if name not in (*own, "worker")
    }  # those hand over, and know nothing of their options
    parts = [get_docs_for_click(obj=everything, ctx=typer.Context(everything), name="stillhouse")]
    parts += [
        get_docs_for_click(
            obj=server.commands[name], ctx=typer.Context(server), name=name, call_prefix="stillhouse", indent=1
        )
        for name in own
    ]
    parts.append("## `stillhouse worker`\n\nA worker alone; it takes its settings from the environment.")
    return _page(parts)


PAGES: dict[str, Callable[[], str]] = {
    "spec.md": spec,
    "rest.md": rest,
    "reasons.md": reasons,
    "settings.md": settings,
    "command.md": command,
}


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _type(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        return f"[{_name(shape)}](#{_name(shape).lower()})"
    if "const" in shape:
        return f"`{shape['const']}`"
    if "enum" in shape:
        return ", ".join(f"`{value}`" for value in shape["enum"])
    for key in ("anyOf", "oneOf"):
        if key in shape:
            return " or ".join(_type(choice) for choice in shape[key])
    kind = str(shape.get("type", "any"))
    if kind == "array":
        kind = f"list of {_type(shape['items'])}"
    bounds = [f"{sign} {shape[bound]}" for bound, sign in _BOUNDS.items() if bound in shape]
    return kind + (f" ({', '.join(bounds)})" if bounds else "")


def _default(shape: dict[str, Any], *, needed: bool) -> str:
    if needed:
        return "**required**"
    return f"`{shape['default']}`" if shape.get("default") not in (None, "", [], {}) else ""


def _name(shape: dict[str, Any]) -> str:
    return str(shape["$ref"]).rsplit("/", 1)[1]


if __name__ == "__main__":
    main()
