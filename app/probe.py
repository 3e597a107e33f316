"""``python -m app.probe api|worker [PORT]``: a container's health check. It loads the standard library alone."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time
from pathlib import Path

from app.signs import fresh

_SECONDS = 3
_PORT = 8400


def main() -> int:
    """0 when the process beside this one lives, 1 with a sentence when it does not."""
    wrong = {"api": _api, "worker": _worker}[sys.argv[1]]()
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


def _api() -> str | None:
    port = int(sys.argv[2]) if len(sys.argv) > 2 else _PORT
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except OSError as error:
        return f"the API does not answer: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"the API answers {status}"


def _worker() -> str | None:
    folder = Path(os.environ["STILLHOUSE_DATA_DIR"])
    heartbeat = float(os.environ.get("STILLHOUSE_HEARTBEAT_SECONDS") or 10)
    if fresh(folder, host=socket.gethostname(), within=3 * heartbeat, now=time.time()):
        return None
    return f"no worker of this host has given a sign of life in {folder} for {3 * heartbeat:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
