"""Every request of the API as a value, so that the sync and the async client differ in how they send alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter
from ulid import ULID

from stillhouse.client.errors import NotFound
from stillhouse.fleet import Worker
from stillhouse.projects import Project
from stillhouse.resources import (
    ApiKey,
    Artifact,
    Attempt,
    CatalogEntry,
    Checkpoint,
    DryRun,
    Event,
    Job,
    Metrics,
    NewApiKey,
    Page,
    Problem,
)
from stillhouse.spec import JobSpec

Answer = TypeVar("Answer")
Kind = Literal["architectures", "methods", "datasets", "exports"]


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request, and how its answer is read."""

    method: str
    path: str
    parse: Callable[[httpx.Response], Answer]
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """Whether it may be sent again when no answer came."""

    def arguments(self) -> dict[str, Any]:
        """What httpx takes beside method and path."""
        return {"params": self.params, "json": self.json, "content": self.content, "headers": dict(self.headers)}


def _id(given: str) -> str:
    """An id as one step of a path, whatever was given for one. Raises NotFound for an empty one."""
    if not given:
        problem = Problem(title="Not found", status=404, detail="the id is empty", code="not_found", request_id="")
        raise NotFound(problem)
    return quote(given, safe="")


def into(model: Any) -> Callable[[httpx.Response], Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    return lambda response: adapter.validate_json(response.content)


def nothing(_response: httpx.Response) -> None:
    """Reads an answer that has no body."""
    return


def _payload(spec: JobSpec | Mapping[str, Any]) -> Any:
    return spec.model_dump(mode="json") if isinstance(spec, JobSpec) else dict(spec)


def submit(spec: JobSpec | Mapping[str, Any], idempotency_key: str | None) -> Call[Job]:
    """A key always goes along, so a lost answer never makes a second job."""
    key = {"Idempotency-Key": idempotency_key or str(ULID())}
    return Call("POST", "/v1/jobs", into(Job), json=_payload(spec), headers=key)


def dry_run(spec: JobSpec | Mapping[str, Any]) -> Call[DryRun]:
    return Call("POST", "/v1/jobs", into(DryRun), params={"dry_run": "true"}, json=_payload(spec))


def list_jobs(filters: Mapping[str, Any], cursor: str | None) -> Call[Page[Job]]:
    given = {name: value for name, value in filters.items() if value not in (None, [], ())}
    metadata = given.pop("metadata", {})
    given |= {f"metadata[{key}]": value for key, value in metadata.items()}
    return Call("GET", "/v1/jobs", into(Page[Job]), params=given | ({"cursor": cursor} if cursor else {}))


def get(job_id: str) -> Call[Job]:
    return Call("GET", f"/v1/jobs/{_id(job_id)}", into(Job))


def steer(job_id: str, action: Literal["cancel", "pause", "resume"]) -> Call[Job]:
    return Call("POST", f"/v1/jobs/{_id(job_id)}/{action}", into(Job))


def retry(job_id: str) -> Call[Job]:
    """A key goes along, as in ``submit``."""
    return Call("POST", f"/v1/jobs/{_id(job_id)}/retry", into(Job), headers={"Idempotency-Key": str(ULID())})


def delete(job_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/jobs/{_id(job_id)}", nothing, repeatable=False)


def events(job_id: str, after_seq: int, limit: int) -> Call[Page[Event]]:
    params = {"after_seq": after_seq, "limit": limit}
    return Call("GET", events_path(job_id), into(Page[Event]), params=params)


def events_path(job_id: str) -> str:
    """Where a job's events are, as pages or as a stream."""
    return f"/v1/jobs/{_id(job_id)}/events"


def metrics(job_id: str, names: Sequence[str], max_points: int) -> Call[Metrics]:
    params = {"max_points": max_points, **({"names": list(names)} if names else {})}
    return Call("GET", f"/v1/jobs/{_id(job_id)}/metrics", into(Metrics), params=params)


def logs(job_id: str, offset: int) -> Call[tuple[str, int]]:
    def parse(response: httpx.Response) -> tuple[str, int]:
        return response.text, int(response.headers["Log-Next-Offset"])

    return Call("GET", f"/v1/jobs/{_id(job_id)}/logs", parse, params={"offset": offset})


def attempts(job_id: str) -> Call[Page[Attempt]]:
    return Call("GET", f"/v1/jobs/{_id(job_id)}/attempts", into(Page[Attempt]))


def checkpoints(job_id: str) -> Call[Page[Checkpoint]]:
    return Call("GET", f"/v1/jobs/{_id(job_id)}/checkpoints", into(Page[Checkpoint]))


def artifacts(job_id: str) -> Call[Page[Artifact]]:
    return Call("GET", f"/v1/jobs/{_id(job_id)}/artifacts", into(Page[Artifact]))


def catalog(kind: Kind) -> Call[Page[CatalogEntry]]:
    return Call("GET", f"/v1/catalog/{kind}", into(Page[CatalogEntry]))


def workers() -> Call[Page[Worker]]:
    return Call("GET", "/v1/workers", into(Page[Worker]))


def create_key(name: str, scopes: Sequence[str], project: str | None) -> Call[NewApiKey]:
    body = {"name": name, "scopes": list(scopes), **({} if project is None else {"project": project})}
    return Call("POST", "/v1/api-keys", into(NewApiKey), json=body, repeatable=False)


def list_keys(project: str | None) -> Call[Page[ApiKey]]:
    return Call("GET", "/v1/api-keys", into(Page[ApiKey]), params={} if project is None else {"project": project})


def revoke_key(key_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/api-keys/{_id(key_id)}", nothing)


def projects() -> Call[Page[Project]]:
    return Call("GET", "/v1/projects", into(Page[Project]))


def limit_project(project_id: str, limits: Mapping[str, int | None]) -> Call[Project]:
    return Call("PATCH", f"/v1/projects/{_id(project_id)}", into(Project), json={"limits": dict(limits)})
