"""The further ranks of a job: which process is which, and whose word on a failure counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import pytest
import torch

from worker.attempt import Attempt
from worker.child import Emitter
from worker.ranks import Member, Mute, Ranks

SETTLED = {"device": "cpu", "precision": "fp32", "ranks": 2, "threads": 1}


def lines(descriptor: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(descriptor, 2**16).splitlines()]


def test_the_first_rank_is_told_nothing_and_settles_for_the_others() -> None:
    assert Member.of([]) == Member(0, None)
    assert Member.of(["--settled", json.dumps(SETTLED), "--rank", "1"]) == Member(1, SETTLED)


def test_a_further_rank_says_why_it_failed_and_nothing_else() -> None:
    reading, writing = os.pipe()
    mute = Mute(writing)
    mute.emit("progress", fraction=0.5)
    mute.emit("failed", reason="out_of_memory", detail="no memory left")
    assert lines(reading) == [{"event": "failed", "reason": "out_of_memory", "detail": "no memory left"}]


@pytest.mark.parametrize(("code", "how"), [("import sys; sys.exit(1)", "exit status 1"), (None, "signal 9 (SIGKILL)")])
def test_a_rank_that_dies_ends_the_child(code: str | None, how: str) -> None:
    reading, writing = os.pipe()
    ranks = Ranks(Member(), SETTLED, torch.device("cpu"), Emitter(writing))
    process = subprocess.Popen([sys.executable, "-c", code or "import time; time.sleep(60)"])
    if code is None:
        process.kill()
    with patch("os._exit") as ended:
        ranks._watch(1, process)
    ended.assert_called_once_with(1)
    assert lines(reading) == [
        {"event": "failed", "reason": "worker_lost", "detail": f"rank 1 of the job ended with {how}"}
    ]


def test_of_several_ranks_the_first_word_counts() -> None:
    """One runs out of memory; another sees that it is gone, and says so later."""
    attempt = Attempt.__new__(Attempt)
    attempt.failed = None
    attempt._relay({"event": "failed", "reason": "out_of_memory", "detail": "no memory left"})
    attempt._relay({"event": "failed", "reason": "worker_lost", "detail": "rank 1 of the job ended with exit status 1"})
    assert attempt.failed is not None
    assert attempt.failed.reason == "out_of_memory"
