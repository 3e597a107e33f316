"""Following live: many followers, one look-out, no thread held."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.jobs.stream import Tailer
from app.storage import open_storage
from tests.app.conftest import submit
from tests.app.running import claimed, succeeded


def test_a_hundred_followers_see_every_event_without_a_thread_each(
    client: TestClient, database: Database, settings: Settings, tmp_path: Path
) -> None:
    job_id = submit(client)

    async def follow_all() -> tuple[list[list[bytes]], int]:
        tailer = Tailer(database)

        async def follow() -> list[bytes]:
            return [frame async for frame in tailer.follow(job_id, 0)]

        followers = [asyncio.create_task(follow()) for _ in range(100)]
        await asyncio.sleep(0.5)
        threads = threading.active_count()
        lease = await asyncio.to_thread(claimed, database)
        await asyncio.to_thread(succeeded, database, open_storage(settings.storage_url), lease)
        frames = await asyncio.gather(*followers)
        await tailer.close()
        return frames, threads

    seen, threads = asyncio.run(follow_all())
    assert threads < 60
    assert all(frames == seen[0] for frames in seen)
    ids = [line for frame in seen[0] for line in frame.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [b"id: 1", b"id: 2", b"id: 3", b"id: 4", b"id: 5"]


def test_a_follower_that_leaves_is_forgotten(client: TestClient, database: Database) -> None:
    job_id = submit(client)

    async def leave() -> Tailer:
        tailer = Tailer(database)
        stream = tailer.follow(job_id, 0)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.6)
        return tailer

    tailer = asyncio.run(leave())
    assert tailer._followers == {}
    assert tailer._task is not None
    assert tailer._task.done()


def test_a_stream_ends_though_the_job_is_deleted_at_once(client: TestClient, database: Database) -> None:
    job_id = submit(client)

    def cancel_and_delete() -> None:
        client.post(f"/v1/jobs/{job_id}/cancel")
        client.delete(f"/v1/jobs/{job_id}")

    async def follow_and_delete() -> None:
        following = asyncio.create_task(_followed(database, job_id, 1))
        await asyncio.sleep(0.1)  # the follower waits by now; the look-out may or may not see the last event
        await asyncio.to_thread(cancel_and_delete)
        await asyncio.wait_for(following, 60)

    asyncio.run(follow_and_delete())


def test_a_stream_that_goes_on_after_the_last_event_ends(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert asyncio.run(_followed(database, job_id, 2)) == []


async def _followed(database: Database, job_id: str, after_seq: int) -> list[bytes]:
    tailer = Tailer(database)
    try:
        return [frame async for frame in tailer.follow(job_id, after_seq)]
    finally:
        await tailer.close()
