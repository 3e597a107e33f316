"""``python -m worker.child JOB``: how every child begins. It is confined before torch, or any user's file, is touched.

The order matters: a new network namespace holds for the thread that enters it and those it starts, and torch and
OpenBLAS start threads when they are imported.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import threading
import time
from typing import Any

from app.lifeline import die_with_parent
from worker.sandbox import Protections, confine

JOBS = {
    "train": "worker.train",
    "fetch": "worker.fetch",
    "pretrained": "worker.pretrained",
    "validate": "worker.validate",
}
EXIT_STOPPED = 75
"""EX_TEMPFAIL: the child has stopped at a checkpoint because it was asked to."""
_SIGN_SECONDS = 1.0
"""Between two signs of life: a small network is judged on a thousand batches a second."""


class Emitter:
    """Speaks to the supervisor: one JSON document a line."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()
        self._alive_at = 0.0

    def emit(self, event: str, **data: Any) -> None:
        """Send one event. Values that JSON cannot hold (NaN, infinity) become null."""
        line = json.dumps(_finite({"event": event, **data}), allow_nan=False).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self.descriptor, line) :]

    def alive(self) -> None:
        """Say that there is progress, where an event would take long to come; at most once in a while."""
        if (moment := time.monotonic()) - self._alive_at >= _SIGN_SECONDS:
            self._alive_at = moment
            self.emit("alive")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def main() -> int:
    """Confine this process, tie it to its supervisor, then do the job."""
    parser = argparse.ArgumentParser(prog="python -m worker.child")
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--inherited", action="store_true", help="started by a child: confined as it is")
    options, arguments = parser.parse_known_args()
    protections = Protections() if options.inherited else confine(network=options.network)
    die_with_parent(options.lifeline)
    job = importlib.import_module(JOBS[options.job])
    return int(job.run(arguments, Emitter(options.events), protections))


if __name__ == "__main__":
    sys.exit(main())
