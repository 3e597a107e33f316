"""Fail-points: places with names, where a test has a process killed that could be killed there at any time anyway.

``STILLHOUSE_FAILPOINT=name:nth:kill`` kills the process with SIGKILL when it reaches ``name`` for the nth time. Without
the variable a fail-point is one comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "STILLHOUSE_FAILPOINT"
IN_WORKER = (
    "claim.before",
    "claim.after",
    "child.started",
    "metric.commit",
    "checkpoint.upload",
    "checkpoint.uploaded",
    "checkpoint.recorded",
    "publish.upload",
    "publish.manifest",
    "publish.commit",
    "publish.committed",
)
IN_CHILD = ("child.start", "checkpoint.write", "checkpoint.rename", "child.result")


class _Armed:
    def __init__(self, value: str) -> None:
        self.value = value
        self.name, nth, action = value.split(":")
        if self.name not in IN_WORKER + IN_CHILD or action != "kill":
            raise ValueError(f"{VARIABLE}={value}: write name:nth:kill with one of {', '.join(IN_WORKER + IN_CHILD)}")
        self.left = int(nth)


_armed = _Armed(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def reach(name: str) -> None:
    """Die here if this is where, and as often as, the variable says."""
    if _armed is not None and _armed.name == name:
        _armed.left -= 1
        if _armed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def hand_on() -> dict[str, str]:
    """What the next training child is told: the variable, the first time; so the attempt after it lives."""
    global _armed  # one process, one fail-point
    if _armed is None or _armed.name not in IN_CHILD:
        return {}
    armed, _armed = _armed, None
    return {VARIABLE: armed.value}
