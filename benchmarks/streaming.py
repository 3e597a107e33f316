"""``python -m benchmarks.streaming``: a data set of several times the memory that the training may have.

A set of random images is stored, then trained on for one epoch in a process whose memory is limited: by a cgroup of
its own where one can be made, so that the kernel enforces it; else its private memory alone is watched. The figures
are the private memory (RssAnon), which no kernel can take back from a process, and the cgroup's own peak.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.spec import JobSpec
from tests.harness import TREE
from worker.engine.data.store import TENSORS, Writer

SIDE, CLASSES, BATCH = 64, 10, 1024
SPEC: dict[str, Any] = {
    "dataset": {"id": "digits"},
    "student": {
        "layers": [
            {"name": "maxpool"},
            {"name": "maxpool"},
            {"name": "conv", "channels": 8},
            {"name": "relu"},
            {"name": "globalpool"},
            {"name": "linear"},
        ]
    },
    "method": {"name": "none"},
    "training": {"epochs": 1, "batch_size": 256},
}
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Group:
    """A cgroup of this process's own, with a limit."""

    folder: Path
    peak: str

    def read_peak(self) -> int:
        """Bytes that were charged at most, the page cache included."""
        return int((self.folder / self.peak).read_text())


def main() -> int:
    """Print one line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--limit-mib", type=int, default=640, help="memory that the training may have")
    parser.add_argument("--times", type=float, default=4, help="size of the set, in limits")
    options = parser.parse_args()
    limit = options.limit_mib * 2**20
    with tempfile.TemporaryDirectory() as folder:
        count = _write(Path(folder) / "dataset", int(options.times * limit))
        with _limited(limit) as group:
            seconds, private = _train(Path(folder), group)
            peak = f"{group.read_peak() / 2**20:.0f} MiB charged at most" if group else "no cgroup could be made"
    print(
        f"{count:,} images, {count * 3 * SIDE * SIDE / 2**20:.0f} MiB, under {options.limit_mib} MiB: one epoch with "
        f"splits and evaluation in {seconds:.0f} s; private memory {max(private) / 2**20:.0f} MiB at most, "
        f"{private[len(private) // 2] / 2**20:.0f} half-way, {private[-1] / 2**20:.0f} at the end; {peak}"
    )
    return 0 if max(private) < limit else 1


def _write(folder: Path, size: int) -> int:
    rng = np.random.default_rng(0)
    count = size // (3 * SIDE * SIDE)
    with Writer(folder, (3, SIDE, SIDE)) as writer:
        for start in range(0, count, BATCH):
            images = rng.integers(0, 256, (min(BATCH, count - start), 3, SIDE, SIDE), dtype=np.uint8)
            labels = [(start + index) % CLASSES for index in range(len(images))]
            images[:, 0, :8] = (np.array(labels, dtype=np.uint8) * 25)[:, None, None]
            writer.add("train", images, labels)
        writer.close(name="large", classes=tuple(map(str, range(CLASSES))))
    with (folder / TENSORS).open("rb") as file:  # out of the page cache, where it would be charged to this process
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return count


def _train(folder: Path, group: Group | None) -> tuple[float, list[int]]:
    """Wall seconds, and the private memory at every tenth of a second."""
    spec = JobSpec.model_validate(SPEC).model_dump_json()
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(TREE)}
    enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group.folder / "cgroup.procs")] if group else []
    began = time.monotonic()
    command = [*enter, sys.executable, "-m", "benchmarks.library_run", str(folder / "dataset"), spec]
    child = subprocess.Popen(command, cwd=TREE, env=environment)
    private = []
    while child.poll() is None:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        private += [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")]
        time.sleep(0.1)
    if child.returncode != 0:
        raise SystemExit(f"the training ended with {child.returncode} (-9 is the kernel's answer to too much memory)")
    return time.monotonic() - began, private


@contextmanager
def _limited(limit: int) -> Iterator[Group | None]:
    """A cgroup below this process's own, in version 2 or 1; None where it may not be made."""
    places = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    first = "memory" in places
    parent = _CGROUPS / "memory" / places["memory"].strip("/") if first else _CGROUPS / places.get("", "/").strip("/")
    group = Group(parent / f"streaming-{os.getpid()}", "memory.max_usage_in_bytes" if first else "memory.peak")
    try:
        group.folder.mkdir()
        (group.folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
    except OSError as error:
        print(json.dumps({"cgroup": str(error)}), file=sys.stderr)
        yield None
        return
    try:
        yield group
    finally:
        group.folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
