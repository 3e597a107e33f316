"""The client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from httpx_sse import connect_sse

from stillhouse.client import calls
from stillhouse.client.calls import Call, Kind
from stillhouse.client.config import CONNECT_ATTEMPTS, TIMEOUT_SECONDS, endpoint, pause_before
from stillhouse.client.download import check_manifest, fetch, plain_name
from stillhouse.client.errors import ConnectionFailed, raise_for
from stillhouse.client.upload import Uploads
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
)
from stillhouse.spec import JobSpec

Answer = TypeVar("Answer")


class Client(Uploads):
    """Talks to one Stillhouse server.

    ``url`` and ``key`` come from the arguments, else from STILLHOUSE_URL and STILLHOUSE_API_KEY, else from the
    ``stillhouse serve`` of this machine. A request that may be repeated is, when no answer came.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        known = endpoint(url, key)
        self.url = known.url
        self._http = httpx.Client(
            base_url=known.url,
            headers={"Authorization": f"Bearer {known.key}"},
            timeout=TIMEOUT_SECONDS,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: Call[Answer]) -> Answer:
        for attempt in range(CONNECT_ATTEMPTS):
            last = attempt == CONNECT_ATTEMPTS - 1
            try:
                response = self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                if last or not call.repeatable:
                    raise ConnectionFailed(f"no answer from {self.url}: {error}; is the server running?") from error
            else:
                if response.status_code not in (502, 503, 504) or last or not call.repeatable:
                    raise_for(response)
                    return call.parse(response)
            time.sleep(pause_before(attempt))
        raise AssertionError("unreachable")

    def submit(self, spec: JobSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Submit a job. Raises InvalidSpec with a pointer to each field at fault."""
        return self._send(calls.submit(spec, idempotency_key))

    def dry_run(self, spec: JobSpec | Mapping[str, Any]) -> DryRun:
        """Check and estimate a job without storing it."""
        return self._send(calls.dry_run(spec))

    def get(self, job_id: str) -> Job:
        """A job as it stands."""
        return self._send(calls.get(job_id))

    def jobs(self, **filters: Any) -> Iterator[Job]:
        """Jobs, newest first, page by page. Filters: status, tag, metadata, created_after, created_before, q, limit."""
        cursor: str | None = None
        while True:
            page = self._send(calls.list_jobs(filters, cursor))
            yield from page.data
            cursor = page.next_cursor
            if not page.has_more:
                return

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop for good."""
        return self._send(calls.steer(job_id, "cancel"))

    def pause(self, job_id: str) -> Job:
        """Ask a job to stop at a checkpoint."""
        return self._send(calls.steer(job_id, "pause"))

    def resume(self, job_id: str) -> Job:
        """Put a paused job back into the queue."""
        return self._send(calls.steer(job_id, "resume"))

    def retry(self, job_id: str) -> Job:
        """A new job from the same spec."""
        return self._send(calls.retry(job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its files."""
        self._send(calls.delete(job_id))

    def events(self, job_id: str, *, after_seq: int = 0) -> Iterator[Event]:
        """The events so far, in order."""
        while True:
            page = self._send(calls.events(job_id, after_seq, 200))
            yield from page.data
            if not page.has_more:
                return
            after_seq = page.data[-1].seq

    def follow(self, job_id: str, *, after_seq: int = 0) -> Iterator[Event]:
        """Events as they happen, up to the terminal one. Goes on by itself after a cut or a server's restart."""
        silent, over, patience = 0, False, CONNECT_ATTEMPTS - 1
        while True:
            headers, before = {"Last-Event-ID": str(after_seq)}, after_seq
            try:
                with connect_sse(self._http, "GET", calls.events_path(job_id), headers=headers) as source:
                    if not source.response.is_success:
                        source.response.read()
                        raise_for(source.response)
                    patience = 8 * CONNECT_ATTEMPTS  # there is a server: its restart is waited for
                    for message in source.iter_sse():
                        if not message.data:
                            continue  # a ping; httpx-sse hands it on once an id has been seen
                        event = Event.model_validate_json(message.data)
                        after_seq, silent = event.seq, 0
                        yield event
                        if event.data.get("terminal") is True:
                            return
                if over and after_seq == before:
                    return  # the terminal event had been seen before the call
                over = self.get(job_id).terminal
            except httpx.TransportError as error:
                if silent >= patience:
                    raise ConnectionFailed(f"no answer from {self.url}: {error}; is the server running?") from error
            silent += 1
            time.sleep(pause_before(min(silent, 3)))

    def wait(self, job_id: str) -> Job:
        """The job once it has ended."""
        for _ in self.follow(job_id):
            pass
        return self.get(job_id)

    def metrics(self, job_id: str, *, names: Sequence[str] = (), max_points: int = 1000) -> Metrics:
        """Metrics in columns."""
        return self._send(calls.metrics(job_id, names, max_points))

    def logs(self, job_id: str, *, offset: int = 0) -> tuple[str, int]:
        """What the children printed from a byte offset on, and the offset to go on from."""
        return self._send(calls.logs(job_id, offset))

    def attempts(self, job_id: str) -> list[Attempt]:
        """Every attempt, the first one first."""
        return self._send(calls.attempts(job_id)).data

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Every checkpoint that is kept, newest first."""
        return self._send(calls.checkpoints(job_id)).data

    def artifacts(self, job_id: str) -> list[Artifact]:
        """The files of a finished job."""
        return self._send(calls.artifacts(job_id)).data

    def download(self, job_id: str, directory: Path) -> list[Path]:
        """Every file of a finished job, each checked against its sha256 and the manifest. Raises IntegrityError."""
        artifacts = self.artifacts(job_id)
        for artifact in artifacts:
            plain_name(artifact)
        directory.mkdir(parents=True, exist_ok=True)
        files = [self._fetch(artifact, directory) for artifact in artifacts]
        if files:
            check_manifest(directory)
        return files

    def _fetch(self, artifact: Artifact, directory: Path) -> Path:
        for attempt in range(CONNECT_ATTEMPTS):
            try:
                return fetch(self._http, artifact, directory)
            except httpx.TransportError as error:
                if attempt == CONNECT_ATTEMPTS - 1:
                    raise ConnectionFailed(f"the download of {artifact.name} was cut: {error}") from error
            time.sleep(pause_before(attempt))
        raise AssertionError("unreachable")

    def catalog(self, kind: Kind) -> list[CatalogEntry]:
        """What a spec may name."""
        return self._send(calls.catalog(kind)).data

    def workers(self) -> list[Worker]:
        """Every worker that has been heard of lately."""
        return self._send(calls.workers()).data

    def create_key(self, *, name: str, scopes: Sequence[str], project: str | None = None) -> NewApiKey:
        """A new key; its secret is in the answer and nowhere else. Of another ``project``: an operator's key may."""
        return self._send(calls.create_key(name, scopes, project))

    def keys(self, *, project: str | None = None) -> list[ApiKey]:
        """The project's keys; an operator may name another."""
        return self._send(calls.list_keys(project)).data

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        self._send(calls.revoke_key(key_id))

    def projects(self) -> list[Project]:
        """Projects with their limits: this key's, or every one for an operator."""
        return self._send(calls.projects()).data

    def limit_project(self, project_id: str, limits: Mapping[str, int | None]) -> Project:
        """Set some of ``running``, ``waiting`` and ``storage_bytes``; None is the installation's. Takes an operator."""
        return self._send(calls.limit_project(project_id, limits))
