"""Why a job is where it is. Each reason says, in one total table, whose fault it is and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = (
    "queued",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
)
TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What a ``status_reason`` means."""

    fault: Literal["user", "platform", "none"]
    retryable: bool
    """Whether the service tries again by itself: the job goes back to the queue."""
    status: Status
    """Where the job ends up."""
    remedy: str
    outage: bool = False
    """Whether something outside is down: it is waited for with growing pauses, and no poison."""


REASONS: dict[str, Reason] = {
    "user_cancelled": Reason(
        fault="none",
        retryable=False,
        status="cancelled",
        remedy="Nothing to do; retry makes a new job from the same spec.",
    ),
    "user_paused": Reason(fault="none", retryable=False, status="paused", remedy="Resume it when you like."),
    "drained": Reason(
        fault="none",
        retryable=True,
        status="queued",
        remedy="The worker was asked to stop; the job goes on elsewhere from its checkpoint.",
    ),
    "worker_lost": Reason(
        fault="platform",
        retryable=True,
        status="queued",
        remedy="The attempt died; the job goes on from its last checkpoint.",
    ),
    "stalled": Reason(
        fault="platform",
        retryable=True,
        status="queued",
        remedy="The attempt stopped making progress and was ended; it goes on from its last checkpoint.",
    ),
    "gpu_fault": Reason(
        fault="platform",
        retryable=True,
        status="queued",
        remedy="The GPU failed, the detail says how; look after it and its driver. The job goes on from its last "
        "checkpoint.",
    ),
    "download_failed": Reason(
        fault="platform",
        retryable=True,
        status="queued",
        remedy="The data set could not be downloaded; set STILLHOUSE_DATASETS_DIR, or mend the network.",
        outage=True,
    ),
    "storage_error": Reason(
        fault="platform",
        retryable=True,
        status="queued",
        remedy="Files could not be read or written; check the disk's free space and rights.",
        outage=True,
    ),
    "poison": Reason(
        fault="platform",
        retryable=False,
        status="failed",
        remedy="Three attempts in a row died without a new checkpoint; read the logs, then retry.",
    ),
    "max_runtime": Reason(
        fault="user", retryable=False, status="failed", remedy="Raise resources.max_runtime, or train fewer epochs."
    ),
    "validation_limit": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="Upload less, or have whoever runs the service raise STILLHOUSE_VALIDATION_SECONDS.",
    ),
    "nan_loss": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="The loss stopped being finite; lower the learning rate or use precision fp32.",
    ),
    "diverged": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="The loss grew a thousandfold; lower the learning rate or the method's weights.",
    ),
    "out_of_memory": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="Use a smaller batch_size (the detail names one that fits, where that could be tried) or network.",
    ),
    "bad_dataset": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="The data set does not suit this job; the detail says why.",
    ),
    "bad_architecture": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="The network cannot be built for this data; the detail says why.",
    ),
    "teacher_mismatch": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="The teacher is near chance here; check normalisation, classes, input size.",
    ),
    "unsupported_precision": Reason(
        fault="user", retryable=False, status="failed", remedy="Use training.precision auto or fp32 on this hardware."
    ),
    "unsupported_hardware": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="This worker's devices cannot do what the spec asks for; the detail says what.",
    ),
    "method_refused": Reason(
        fault="user", retryable=False, status="failed", remedy="The method cannot work here; the detail says why."
    ),
    "bad_weights": Reason(
        fault="user",
        retryable=False,
        status="failed",
        remedy="The weights cannot be read, or do not fit the network; the detail says why.",
    ),
    "canary_failed": Reason(
        fault="platform",
        retryable=False,
        status="failed",
        remedy="A check of the training itself failed; the detail names it. Please report it.",
    ),
    "internal": Reason(
        fault="platform",
        retryable=False,
        status="failed",
        remedy="A defect in the service; the logs hold the details. Please report it.",
    ),
}
"""Open and documented: clients must expect reasons that are not here yet."""
