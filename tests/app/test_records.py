"""What a job leaves behind: events, metrics, logs, files."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from app.storage import open_storage
from tests.app.conftest import submit
from tests.app.running import claimed, succeeded
from worker.reporter import Reporter


def finished(client: TestClient, database: Database, settings: Settings, folder: Path, content: bytes) -> str:
    job_id = submit(client)
    succeeded(database, open_storage(settings.storage_url), claimed(database), content=content)
    return job_id


def test_events_are_gapless_and_paged(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    claimed(database)
    first = client.get(f"/v1/jobs/{job_id}/events?limit=2").json()
    rest = client.get(f"/v1/jobs/{job_id}/events?after_seq=2").json()
    assert [event["seq"] for event in first["data"] + rest["data"]] == [1, 2, 3]
    assert [event["type"] for event in first["data"]] == ["job.created", "job.status_changed"]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_the_stream_replays_from_the_last_event_and_ends(
    client: TestClient, database: Database, settings: Settings, tmp_path: Path
) -> None:
    job_id = finished(client, database, settings, tmp_path, b"x")
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "3"}
    text = client.get(f"/v1/jobs/{job_id}/events", headers=headers).text
    frames = [dict(line.split(": ", 1) for line in frame.splitlines()) for frame in text.strip().split("\n\n")]
    assert [frame["id"] for frame in frames] == ["4", "5"]
    assert frames[-1]["event"] == "job.status_changed"
    assert '"terminal":true' in frames[-1]["data"]


def test_a_last_event_id_that_is_no_number_is_refused(client: TestClient) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "x"}
    assert client.get(f"/v1/jobs/{submit(client)}/events", headers=headers).status_code == 422


def test_metrics_come_in_columns_and_keep_their_spikes(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    reporter = Reporter(database, claimed(database), log_limit_bytes=1000, lost=lambda: True)
    reporter.metrics([("loss", step, 1.0, 100.0 if step == 517 else 1.0) for step in range(1000)])
    reporter.metrics([("other", 1, 1.0, None)])
    reporter.flush(force=True)
    data = client.get(f"/v1/jobs/{job_id}/metrics?names=loss&max_points=20").json()["data"]
    assert list(data) == ["loss"]
    assert len(data["loss"]["step"]) <= 20
    assert 517 in data["loss"]["step"]
    assert data["loss"]["step"] == sorted(data["loss"]["step"])
    csv = client.get(f"/v1/jobs/{job_id}/metrics.csv").text.splitlines()
    assert len(csv) == 1002


def test_a_metric_point_that_is_told_again_is_kept_once(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    reporter = Reporter(database, claimed(database), log_limit_bytes=1000, lost=lambda: True)
    for _ in range(2):
        reporter.metrics([("loss", 1, 1.0, 0.5)])
        reporter.flush(force=True)
    assert client.get(f"/v1/jobs/{job_id}/metrics").json()["data"]["loss"]["step"] == [1]


def test_logs_go_on_from_an_offset_and_are_bounded(client: TestClient, database: Database) -> None:
    job_id = submit(client)
    reporter = Reporter(database, claimed(database), log_limit_bytes=20, lost=lambda: True)
    for text in ("first\n", "zweite Zeile: ä\n", "beyond the limit\n"):
        reporter.output(text)
        reporter.flush(force=True)
    whole = client.get(f"/v1/jobs/{job_id}/logs")
    assert whole.text.startswith("first\nzweite")
    assert "is not kept" in whole.text
    assert client.get(f"/v1/jobs/{job_id}/logs?offset=6").text == whole.text[6:]
    following = whole.headers["Log-Next-Offset"]
    assert client.get(f"/v1/jobs/{job_id}/logs?offset={following}").text == ""


def test_a_file_comes_with_its_digest_and_in_ranges(
    client: TestClient, database: Database, settings: Settings, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 10
    job_id = finished(client, database, settings, tmp_path, content)
    (row,) = client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]
    digest = hashlib.sha256(content)
    assert (row["bytes"], row["sha256"]) == (len(content), digest.hexdigest())
    path = f"/v1/artifacts/{row['id']}/content"
    whole = client.get(path)
    assert whole.content == content
    assert whole.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert whole.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    part = client.get(path, headers={"Range": "bytes=100-199", "If-Range": whole.headers["ETag"]})
    assert (part.status_code, part.content) == (206, content[100:200])
    stale = client.get(path, headers={"Range": "bytes=100-199", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, content)
    assert client.get(path, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    for ranges in ("bytes=99999-", "bytes=5-2", "bytes=0-1, 5-2", "bytes=0-1,abc", "bytes=abc", "bytes="):
        refused = client.get(path, headers={"Range": ranges})
        assert (refused.status_code, refused.json()["code"]) == (416, "range_not_satisfiable"), ranges
    assert client.get(path, headers={"Range": "bytes=7-7"}).content == content[7:8]
    check_if_match(client, path, whole.headers["ETag"])


def check_if_match(client: TestClient, path: str, tag: str) -> None:
    """RFC 9110, 13.1.1 and 13.2.2: compared strongly, and before If-None-Match."""
    for named in (tag, "*", f'"other", {tag}'):
        assert client.get(path, headers={"If-Match": named}).status_code == 200, named
    for named in ('"other"', f"W/{tag}", tag.strip('"')):
        for ask in (client.get, client.head):
            refused = ask(path, headers={"If-Match": named, "If-None-Match": tag})
            assert refused.status_code == 412, named
    assert client.get(path, headers={"If-Match": '"other"'}).json()["code"] == "precondition_failed"
    assert client.get(path, headers={"If-Match": tag, "If-None-Match": tag}).status_code == 304


def test_attempts_and_checkpoints_are_shown(client: TestClient, database: Database, tmp_path: Path) -> None:
    job_id = submit(client)
    lease = claimed(database)
    reporter = Reporter(database, lease, log_limit_bytes=1000, lost=lambda: True)
    reporter.started(4711, None)
    storage = open_storage((tmp_path / "files").as_uri())
    stored = storage.put(f"jobs/{job_id}/attempts/1/checkpoints/x.pt", io.BytesIO(b"state"))
    reporter.checkpoint(stored, {"phase": "teacher", "complete": False, "epoch": 1, "step": 2})
    (attempt,) = client.get(f"/v1/jobs/{job_id}/attempts").json()["data"]
    assert (attempt["n"], attempt["worker"], attempt["pid"], attempt["ended_at"]) == (1, "w1", 4711, None)
    (checkpoint,) = client.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
    assert (checkpoint["phase"], checkpoint["sha256"]) == ("teacher", hashlib.sha256(b"state").hexdigest())
