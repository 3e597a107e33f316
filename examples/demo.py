"""``make demo``: the whole service, from nothing to a downloaded student."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from stillhouse import Client, StillhouseError
from stillhouse.cli import specfile, tables
from stillhouse.cli.watch import watch
from stillhouse.client.download import check_manifest

TREE = Path(__file__).resolve().parent.parent
OUTPUT = TREE / "demo-output"
START_SECONDS = 60


def main() -> int:
    """Start, submit, watch, download, compare, stop."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="stillhouse-demo-", ignore_cleanup_errors=True) as folder:
        data_dir, log = Path(folder) / "data", Path(folder) / "serve.log"
        with log.open("wb") as writing:
            command = [sys.executable, "-m", "app", "serve", "--port", "0", "--data-dir", str(data_dir)]
            server = subprocess.Popen(command, cwd=TREE, stdout=writing, stderr=writing)
        try:
            return _run(data_dir, server, console)
        except (StillhouseError, TimeoutError) as error:
            console.print(
                f"the demo failed: {error}\n--- the server's log ---\n{log.read_text()[-4000:]}", markup=False
            )
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def _run(data_dir: Path, server: subprocess.Popen[bytes], console: Console) -> int:
    with _client(data_dir, server) as client:
        console.print(f"Stillhouse serves {client.url}", highlight=False)
        job = client.submit(specfile.load(TREE / "examples" / "digits.yaml"))
        console.print(f"submitted examples/digits.yaml as {job.id}", highlight=False)
        job = watch(client, job.id, console)
        if job.status != "succeeded" or job.result is None:
            console.print(f"the job {job.status}: {job.status_reason} {job.status_detail}", markup=False)
            return 1
        shutil.rmtree(OUTPUT, ignore_errors=True)
        client.download(job.id, OUTPUT)
    out = Console()
    out.print(tables.comparison(job.result))
    out.print(job.result.verdict, highlight=False)
    names = check_manifest(OUTPUT)
    out.print(
        f"{len(names)} files in {OUTPUT.name}/, each with the sha256 of its manifest: {', '.join(names)}",
        highlight=False,
    )
    return 0


def _client(data_dir: Path, server: subprocess.Popen[bytes]) -> Client:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        url, key = data_dir / "url", data_dir / "api-key"
        if url.exists() and key.exists() and url.read_text().endswith("\n"):
            return Client(url.read_text().strip(), key.read_text().strip())
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


if __name__ == "__main__":
    sys.exit(main())
