"""Whether this worker may take a job: room on its disk, GPUs that answer. Looked at from outside, without torch."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 10.0
_LONGEST_LOOK_SECONDS = 30.0
"""A driver that hangs is as bad as one that fails."""


def installed() -> tuple[str, ...]:
    """The GPUs of this machine; where its driver does not answer, one that is found unfit until it does."""
    if shutil.which("nvidia-smi") is None:
        return ()
    try:
        asked = _listed()
    except (OSError, subprocess.TimeoutExpired):
        return ("cuda:0",)
    found = re.findall(r"^GPU (\d+): ", asked.stdout, flags=re.MULTILINE)
    return tuple(f"cuda:{number}" for number in found) or ("cuda:0",)


def _listed() -> subprocess.CompletedProcess[str]:
    """What the driver lists. Raises OSError, TimeoutExpired."""
    return subprocess.run(
        ["nvidia-smi", "-L"],  # noqa: S607  # where the driver put it
        capture_output=True,
        text=True,
        timeout=_LONGEST_LOOK_SECONDS,
        check=False,
    )


class Fitness:
    """Remembers what it saw for a few seconds: it is asked before each claim."""

    def __init__(self, folder: Path, *, least_free_bytes: int, devices: Sequence[str]) -> None:
        self._folder = folder
        self._least_free_bytes = least_free_bytes
        self._gpus = [device.removeprefix("cuda:") for device in devices if device.startswith("cuda:")]
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._seen: str | None = None

    def complaint(self) -> str | None:
        """Why no job may be taken now, with the remedy; None when one may."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_EVERY_SECONDS:
                seen = self._disk() or self._gpu()
                if seen != self._seen:
                    logger.warning("takes no job: %s", seen) if seen else logger.warning("takes jobs again")
                self._seen, self._looked = seen, time.monotonic()
            return self._seen

    def _disk(self) -> str | None:
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            return f"{self._folder}: {error.strerror}"
        if free >= self._least_free_bytes:
            return None
        return (
            f"only {free // 2**20} MiB free in {self._folder}, and STILLHOUSE_LEAST_FREE_BYTES asks for "
            f"{self._least_free_bytes // 2**20}; make room"
        )

    def _gpu(self) -> str | None:
        if not self._gpus:
            return None
        try:
            asked = _listed()
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"nvidia-smi does not answer: {error}; look after the driver"
        said = f"{asked.stdout}\n{asked.stderr}".strip()
        if asked.returncode != 0:
            return f"nvidia-smi ended with status {asked.returncode}: {said[:300]}; look after the driver"
        for gpu in self._gpus:
            mark = f"GPU {gpu}: " if gpu.isdigit() else gpu
            if mark not in asked.stdout:
                return f"GPU {gpu} is not among those that nvidia-smi lists; it fell off the bus, or was never there"
        return None
