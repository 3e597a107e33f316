"""``python -m benchmarks.uploads``: a large file through the client to a real server, and what memory that takes.

Prints the rate, the server's peak resident memory before and after, and whether the sha256 is right. With ``--whole``
the file goes in one request, as other tus clients send it, instead of the client's checked pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx

from app.config import Settings
from app.db import Database
from app.lifecycle.uploads import parts
from app.storage import open_storage
from stillhouse import Client
from tests.harness import Service, service
from tests.servers import seaweedfs

_BLOCK = 2**20


def main() -> int:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--storage", choices=("local", "s3"), default="local", help="s3: SeaweedFS on this machine")
    options = parser.parse_args()
    os.environ.update(seaweedfs.fresh() if options.storage == "s3" else {})
    kept_in = {name: value for name, value in os.environ.items() if name == "STILLHOUSE_STORAGE_URL"}
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "data", **kept_in) as running:
        file = Path(folder) / "large.bin"
        expected = _write(file, options.mib)
        for whole in (False, True):
            before = _peak(running.pids()["api"])
            began = time.monotonic()
            upload = _send_whole(running, file) if whole else _send_pieces(running, file)
            seconds = time.monotonic() - began
            after = _peak(running.pids()["api"])
            right = _digest(running, upload) == expected
            said = "right" if right else "WRONG"
            way = f"{options.storage} in " + ("one request" if whole else "checked pieces of 8 MiB")
            print(
                f"{options.mib} MiB to {way}: {seconds:.1f} s ({options.mib / seconds:.0f} MiB/s), "
                f"sha256 {said}; the API's peak memory {before:.0f} MiB before, {after:.0f} MiB after"
            )
            running.http.delete(f"/v1/uploads/{upload}", headers={"Tus-Resumable": "1.0.0"}).raise_for_status()
            if not right:
                return 1
    return 0


def _write(file: Path, mib: int) -> str:
    """Random bytes; their sha256."""
    digest = hashlib.sha256()
    with file.open("wb") as writing:
        for _ in range(mib):
            block = os.urandom(_BLOCK)
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _send_pieces(running: Service, file: Path) -> str:
    key = (running.data_dir / "api-key").read_text().strip()
    with Client(str(running.http.base_url), key) as client:
        return client.upload(file)


def _send_whole(running: Service, file: Path) -> str:
    tus = {"Tus-Resumable": "1.0.0"}
    length = str(file.stat().st_size)
    made = running.http.post("/v1/uploads", headers={**tus, "Upload-Length": length}).raise_for_status().json()
    headers = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream", "Content-Length": length}
    with file.open("rb") as reading:
        blocks = iter(lambda: reading.read(_BLOCK), b"")
        answer = running.http.patch(
            f"/v1/uploads/{made['id']}", content=blocks, headers=headers, timeout=httpx.Timeout(600)
        )
    answer.raise_for_status()
    return str(made["id"])


def _digest(running: Service, upload: str) -> str:
    """Of what arrived, read as a worker reads it."""
    settings = Settings(data_dir=running.data_dir)
    database, storage = Database(running.database_url), open_storage(settings.storage_url)
    with database.reading() as session, tempfile.TemporaryFile() as whole:
        for part in parts(session, upload):
            storage.read(part.key, whole)
        whole.seek(0)
        return hashlib.file_digest(whole, "sha256").hexdigest()


def _peak(pid: int) -> float:
    """VmHWM of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    sys.exit(main())
