"""The service on an S3 store: a whole life there, and the store gone, damaged or closed in the middle of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.store import S3Store

from stillhouse import Client
from tests.engine.archives import folder, zipped
from tests.faults import disturbance
from tests.faults.invariants import check
from tests.harness import Service, eventually, service
from tests.servers.backends import OwnStore, own_store
from tests.servers.proxy import Proxy
from tests.servers.seaweedfs import BUCKET, KEYS, SeaweedFS

SPEC = {
    **disturbance.SPEC,
    "teacher": {**disturbance.SPEC["teacher"], "train": {"epochs": 3}},
    "training": {**disturbance.SPEC["training"], "epochs": 12},
}
"""Long enough that a quick machine does not end it while the store is away."""
SMALL: dict[str, Any] = {"method": {"name": "none"}, "control": False, "training": {"epochs": 1, "batch_size": 8}}


@pytest.fixture(scope="module")
def own() -> Iterator[OwnStore]:
    with own_store() as started:
        yield started


@pytest.fixture(scope="module")
def store(own: OwnStore) -> SeaweedFS:
    return own.store


@pytest.fixture(scope="module")
def line(own: OwnStore) -> Proxy:
    """Between the service and the store."""
    return own.line


@pytest.fixture(scope="module")
def running(own: OwnStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("store") / "data", **own.settings("service")) as started:
        yield started


@pytest.fixture
def client(running: Service) -> Iterator[Client]:
    key = (running.data_dir / "api-key").read_text().strip()
    with Client((running.data_dir / "url").read_text().strip(), key) as speaking:
        yield speaking


@pytest.fixture
def bucket(store: SeaweedFS) -> S3Store:
    keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    config: Any = {**keys, "endpoint": store.endpoint}
    return S3Store(BUCKET, prefix="service", config=config, client_options={"allow_http": True})


def names(bucket: S3Store) -> set[str]:
    return {item["path"] for page in obstore.list(bucket) for item in page}


def test_a_whole_life_on_s3(
    running: Service, client: Client, store: SeaweedFS, bucket: S3Store, tmp_path: Path
) -> None:
    """Data in, a network trained on it, out again, in as a teacher, and all of it deleted."""
    archive = zipped(tmp_path / "x.zip", folder(train=20, test=5))
    dataset = client.create_dataset(name="mine", upload=client.upload(archive))
    assert client.wait_for(dataset.id).state == "ready", client.dataset(dataset.id)
    assert {name.partition("/")[0] for name in names(bucket)} == {"datasets"}, "the upload's parts are not needed"
    spec = {**SMALL, "dataset": {"id": dataset.id}, "student": {"architecture": "resnet8"}}
    first = client.wait(client.submit(spec).id)
    assert (first.status, check(running, first.id)) == ("succeeded", []), first
    client.download(first.id, tmp_path / "out")
    check_redirect(running, client, store, first.id)

    shown = json.loads((tmp_path / "out" / "student.json").read_text())
    known = {name: shown["input"][name] for name in ("mean", "std")} | {"input_size": shown["input"]["shape"][1]}
    upload = client.upload(tmp_path / "out" / "student.safetensors")
    model = client.create_model(name="t", upload=upload, architecture="resnet8", classes=shown["classes"], **known)
    assert client.wait_for(model.id).state == "ready", client.model(model.id)
    teacher = {"architecture": "resnet8", "weights": model.id}
    second = client.wait(client.submit({**spec, "method": {"name": "kd"}, "teacher": teacher}).id)
    assert (second.status, check(running, second.id)) == ("succeeded", []), second

    assert not list((running.data_dir / "storage").rglob("*")), "a file that is not in the store"
    for job in (first, second):
        client.delete(job.id)
    client.delete_model(model.id)
    client.delete_dataset(dataset.id)
    assert names(bucket) == set()


def check_redirect(running: Service, client: Client, store: SeaweedFS, job_id: str) -> None:
    """The API's answer says what the file is and where, to those who know the key; its log does not say where."""
    (row,) = [row for row in client.artifacts(job_id) if row.name == "report.html"]
    path = f"/v1/artifacts/{row.id}/content"
    answer = running.http.get(path, follow_redirects=False)
    assert (answer.status_code, answer.headers["ETag"]) == (307, f'"{row.sha256}"')
    assert answer.headers["Location"].startswith(f"{store.endpoint}/{BUCKET}/service/jobs/{job_id}/")
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert answer.headers["Cache-Control"] == "no-store"
    assert httpx.get(answer.headers["Location"]).headers["Content-Type"] == row.media_type
    head = running.http.head(path, follow_redirects=False)
    assert (head.status_code, int(head.headers["Content-Length"])) == (200, row.bytes)
    same = running.http.get(path, headers={"If-None-Match": answer.headers["ETag"]}, follow_redirects=False)
    assert same.status_code == 304
    signature = httpx.URL(answer.headers["Location"]).params["X-Amz-Signature"]
    assert signature not in running.log.read_text()


def test_an_upload_goes_on_after_the_line_was_cut_and_the_store_was_killed(
    running: Service, client: Client, store: SeaweedFS, line: Proxy, bucket: S3Store, tmp_path: Path
) -> None:
    data = os.urandom(40 * 2**20)
    (tmp_path / "x.bin").write_bytes(data)
    killed = threading.Event()

    def disturb(arrived: int, _total: int) -> None:
        if arrived == 8 * 2**20:
            line.room = 3 * 2**20  # in the middle of the next part
            threading.Timer(1.5, lambda: setattr(line, "room", None)).start()
        elif arrived == 24 * 2**20:
            store.kill()
            killed.set()

    with ThreadPoolExecutor() as pool:
        sending = pool.submit(client.upload, tmp_path / "x.bin", on_progress=disturb)
        assert killed.wait(120)
        time.sleep(1)
        store.start()
        upload = sending.result()
    assert b"".join(bytes(obstore.get(bucket, name).bytes()) for name in sorted(names(bucket))) == data
    client.drop_upload(upload)
    assert names(bucket) == set()


@pytest.mark.slow
def test_a_slow_store_slows_a_job_and_nothing_else(running: Service, client: Client, line: Proxy) -> None:
    line.delay = 0.05
    try:
        job = client.wait(client.submit({**SMALL, "dataset": {"id": "digits"}, "student": SPEC["student"]}).id)
    finally:
        line.delay = 0.0
    assert (job.status, job.attempt, check(running, job.id)) == ("succeeded", 1, [])
    client.delete(job.id)


@pytest.fixture(scope="module")
def expected(running: Service) -> bytes:
    job_id = running.submit(SPEC)
    assert running.wait(job_id)["status"] == "succeeded", running.job(job_id)
    return running.artifact(job_id, "student.safetensors")


def warned(running: Service, job_id: str, words: str) -> bool:
    return any(words in event["data"].get("message", "") for event in running.events(job_id))


def training(running: Service) -> str:
    """A job that has stored two checkpoints."""
    job_id = running.submit(SPEC)
    eventually(lambda: len(running.get(f"/v1/jobs/{job_id}/checkpoints")["data"]) > 1, what="two checkpoints")
    return job_id


@pytest.mark.slow
def test_a_store_that_is_killed_costs_no_job_and_changes_no_byte(
    running: Service, store: SeaweedFS, expected: bytes
) -> None:
    """Away while checkpoints are stored, back, and away again while the student is to be published."""
    job_id = training(running)
    store.kill()
    eventually(lambda: warned(running, job_id, "this checkpoint could not be kept"), what="a checkpoint to be lost")
    ready = httpx.get(f"{running.http.base_url}/readyz")
    assert ready.status_code == 503
    assert "the store does not answer" in ready.json()["parts"]["storage"]
    store.start()
    eventually(lambda: running.job(job_id)["stage"] in ("control", "evaluating"), what="the training to go on")
    store.kill()
    eventually(lambda: running.job(job_id)["status_reason"] == "storage_error", what=lambda: str(running.job(job_id)))
    assert "the store does not answer" in running.job(job_id)["status_detail"]
    assert running.get(f"/v1/jobs/{job_id}/artifacts")["data"] == []
    store.start()
    assert running.wait(job_id)["status"] == "succeeded"
    assert running.artifact(job_id, "student.safetensors") == expected
    assert check(running, job_id) == []


@pytest.mark.slow
def test_a_checkpoint_with_a_flipped_byte_gives_way_to_the_one_before(
    running: Service, bucket: S3Store, expected: bytes
) -> None:
    job_id = training(running)
    assert running.http.post(f"/v1/jobs/{job_id}/pause").status_code == 202
    eventually(lambda: running.job(job_id)["status"] == "paused", what="the job to pause")
    newest = max(name for name in names(bucket) if name.startswith(f"jobs/{job_id}/") and "checkpoints" in name)
    data = bytearray(obstore.get(bucket, newest).bytes())
    data[len(data) // 2] ^= 1
    obstore.put(bucket, newest, bytes(data))
    running.http.post(f"/v1/jobs/{job_id}/resume").raise_for_status()
    assert running.wait(job_id)["status"] == "succeeded"
    assert warned(running, job_id, "is damaged; going on from the one before it")
    assert running.artifact(job_id, "student.safetensors") == expected
    assert check(running, job_id) == []
