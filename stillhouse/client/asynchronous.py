"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx
from httpx_sse import aconnect_sse

from stillhouse.client import calls
from stillhouse.client.calls import Call, Kind
from stillhouse.client.config import CONNECT_ATTEMPTS, TIMEOUT_SECONDS, endpoint, pause_before
from stillhouse.client.errors import ConnectionFailed, raise_for
from stillhouse.client.upload import AsyncUploads
from stillhouse.fleet import Worker
from stillhouse.resources import Artifact, CatalogEntry, DryRun, Event, Job, Metrics
from stillhouse.spec import JobSpec

Answer = TypeVar("Answer")


class AsyncClient(AsyncUploads):
    """Talks to one Stillhouse server; see ``Client`` for what the methods do."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        known = endpoint(url, key)
        self.url = known.url
        self._http = httpx.AsyncClient(
            base_url=known.url,
            headers={"Authorization": f"Bearer {known.key}"},
            timeout=TIMEOUT_SECONDS,
            transport=transport,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._http.aclose()

    async def _send(self, call: Call[Answer]) -> Answer:
        for attempt in range(CONNECT_ATTEMPTS):
            last = attempt == CONNECT_ATTEMPTS - 1
            try:
                response = await self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                if last or not call.repeatable:
                    raise ConnectionFailed(f"no answer from {self.url}: {error}; is the server running?") from error
            else:
                if response.status_code not in (502, 503, 504) or last or not call.repeatable:
                    raise_for(response)
                    return call.parse(response)
            await asyncio.sleep(pause_before(attempt))
        raise AssertionError("unreachable")

    async def submit(self, spec: JobSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        return await self._send(calls.submit(spec, idempotency_key))

    async def dry_run(self, spec: JobSpec | Mapping[str, Any]) -> DryRun:
        return await self._send(calls.dry_run(spec))

    async def get(self, job_id: str) -> Job:
        return await self._send(calls.get(job_id))

    async def jobs(self, **filters: Any) -> AsyncIterator[Job]:
        cursor: str | None = None
        while True:
            page = await self._send(calls.list_jobs(filters, cursor))
            for job in page.data:
                yield job
            cursor = page.next_cursor
            if not page.has_more:
                return

    async def cancel(self, job_id: str) -> Job:
        return await self._send(calls.steer(job_id, "cancel"))

    async def pause(self, job_id: str) -> Job:
        return await self._send(calls.steer(job_id, "pause"))

    async def resume(self, job_id: str) -> Job:
        return await self._send(calls.steer(job_id, "resume"))

    async def retry(self, job_id: str) -> Job:
        return await self._send(calls.retry(job_id))

    async def delete(self, job_id: str) -> None:
        await self._send(calls.delete(job_id))

    async def follow(self, job_id: str, *, after_seq: int = 0) -> AsyncIterator[Event]:
        silent, over, patience = 0, False, CONNECT_ATTEMPTS - 1
        while True:
            headers, before = {"Last-Event-ID": str(after_seq)}, after_seq
            try:
                async with aconnect_sse(self._http, "GET", calls.events_path(job_id), headers=headers) as source:
                    if not source.response.is_success:
                        await source.response.aread()
                        raise_for(source.response)
                    patience = 8 * CONNECT_ATTEMPTS  # there is a server: its restart is waited for
                    async for message in source.aiter_sse():
                        if not message.data:
                            continue  # a ping; httpx-sse hands it on once an id has been seen
                        event = Event.model_validate_json(message.data)
                        after_seq, silent = event.seq, 0
                        yield event
                        if event.data.get("terminal") is True:
                            return
                if over and after_seq == before:
                    return  # the terminal event had been seen before the call
                over = (await self.get(job_id)).terminal
            except httpx.TransportError as error:
                if silent >= patience:
                    raise ConnectionFailed(f"no answer from {self.url}: {error}; is the server running?") from error
            silent += 1
            await asyncio.sleep(pause_before(min(silent, 3)))

    async def wait(self, job_id: str) -> Job:
        async for _ in self.follow(job_id):
            pass
        return await self.get(job_id)

    async def metrics(self, job_id: str, *, names: Sequence[str] = (), max_points: int = 1000) -> Metrics:
        return await self._send(calls.metrics(job_id, names, max_points))

    async def artifacts(self, job_id: str) -> list[Artifact]:
        return (await self._send(calls.artifacts(job_id))).data

    async def workers(self) -> list[Worker]:
        return (await self._send(calls.workers())).data

    async def catalog(self, kind: Kind) -> list[CatalogEntry]:
        return (await self._send(calls.catalog(kind))).data
