"""The processes of a job that trains on several devices: the child, and the further ranks that it starts.

A further rank is the same program, started by exec. It inherits what confines the child (no network but loopback, the
uid, no capabilities, the limits), reads the same folder, and says nothing but why it failed. It is gone within moments
of the child; and when one dies, however it dies, the child ends too, so that the job goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from worker.child import Emitter
from worker.engine.team import Team

MEETING = Path("meeting")
"""In the child's folder: where the ranks find each other."""


@dataclass(frozen=True)
class Member:
    """Which of the ranks a process is, and what the first one settled."""

    rank: int = 0
    settled: dict[str, Any] | None = None

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Member:
        """From the command line, which is empty for the first rank."""
        parser = argparse.ArgumentParser(prog="python -m worker.child train")
        parser.add_argument("--rank", type=int, default=0)
        parser.add_argument("--settled", type=json.loads)
        options = parser.parse_args(arguments)
        return cls(options.rank, options.settled)


class Ranks:
    """Starts the others, in the first rank, and ends them; in between, all form a team."""

    def __init__(self, member: Member, settled: Mapping[str, Any], device: torch.device, emitter: Emitter) -> None:
        self._member = member
        self._settled = dict(settled)
        self._device = device
        self._emitter = emitter
        self._others: list[subprocess.Popen[bytes]] = []
        self._over = False
        self.team = Team()

    def __enter__(self) -> Self:
        size = self._settled["ranks"]
        if size == 1:
            return self
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
        if self._member.rank == 0:
            self._start(size)
        self.team = Team.join(rank=self._member.rank, size=size, device=self._device, meeting=MEETING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        for process in self._others:
            process.kill()
            process.wait()

    def _start(self, size: int) -> None:
        lifeline, self._held = os.pipe()  # the writing end closes when this process ends
        command = [sys.executable, "-m", "worker.child", "train", "--inherited", "--lifeline", str(lifeline)]
        command += ["--events", str(self._emitter.descriptor), "--settled", json.dumps(self._settled)]
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the first rank stops for all
        try:
            for rank in range(1, size):
                process = subprocess.Popen(
                    [*command, "--rank", str(rank)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(lifeline, self._emitter.descriptor),
                )
                self._others.append(process)
                threading.Thread(target=self._watch, args=(rank, process), name=f"rank-{rank}", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            os.close(lifeline)

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """The others may wait for this one for ever; what it said itself of its end comes first and counts."""
        status = process.wait()
        if status != 0 and not self._over:
            self._emitter.emit(
                "failed", reason="worker_lost", detail=f"rank {rank} of the job ended with {_how(status)}"
            )
            os._exit(1)


class Mute(Emitter):
    """Of a further rank: the first one speaks for all, but why a rank failed it must say itself."""

    def emit(self, event: str, **data: Any) -> None:
        if event == "failed":
            super().emit(event, **data)


def _how(status: int) -> str:
    return f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
