"""The validating child: opens what a user uploaded, and makes the stored form of it or says why it cannot.

A verdict of either kind is a result; only what is no fault of the file (no room, a defect) fails the validation.
"""

from __future__ import annotations

import errno
import json
import resource
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from worker.appraise import appraise
from worker.child import Emitter
from worker.convert import convert
from worker.engine.data.ingest import Ingest
from worker.engine.errors import EngineError
from worker.engine.memory import out_of_memory
from worker.sandbox import Protections

UPLOAD, BUNDLE, SCRATCH, DATASET = Path("upload"), Path("bundle"), Path("unpacked"), Path("dataset")
_SHORT_OF_MEMORY = (
    "to be looked into it needs more than the {:,} bytes of memory that STILLHOUSE_VALIDATION_MEMORY_BYTES allows; "
    "upload less, or have whoever runs the service raise that setting"
)


def _dataset(plan: dict[str, Any], report: dict[str, Any], alive: Callable[[], None]) -> dict[str, Any]:
    size = plan["declared"]["image_size"]
    ingest = Ingest(UPLOAD, scratch=SCRATCH, image_size=size, report=report, alive=alive)
    return ingest.run(BUNDLE, name=plan["name"])


def _model(plan: dict[str, Any], report: dict[str, Any], alive: Callable[[], None]) -> dict[str, Any]:
    facts = convert(UPLOAD, BUNDLE, scratch=SCRATCH, declared=plan["declared"], report=report)
    if plan["appraisal"] is not None:
        alive()
        appraise(BUNDLE, DATASET, asked=plan["appraisal"], report=report, alive=alive)
    return facts


VALIDATIONS: dict[str, Callable[[dict[str, Any], dict[str, Any], Callable[[], None]], dict[str, Any]]] = {
    "datasets": _dataset,
    "models": _model,
}


def run(_arguments: Sequence[str], emitter: Emitter, protections: Protections) -> int:
    """Do what ``plan.json`` says; the last event is the verdict, or why there is none."""
    plan = json.loads(Path("plan.json").read_text())
    # private memory alone counts, so files may be mapped for reading at any size
    resource.setrlimit(resource.RLIMIT_DATA, (plan["memory_bytes"], plan["memory_bytes"]))
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    facts: dict[str, Any] | None = None
    try:
        facts = VALIDATIONS[plan["table"]](plan, report, emitter.alive)
    except EngineError as error:
        report["problems"] = [f"{error} {error.remedy}".strip()]
    except Exception as error:  # noqa: BLE001  # told to the supervisor
        if not out_of_memory(error):
            emitter.emit("failed", **_explained(error))
            return 1
        report["problems"] = [_SHORT_OF_MEMORY.format(plan["memory_bytes"])]
    report["sandbox"] = {"held": protections.held, "missing": protections.missing}
    emitter.emit("result", result={"report": report, "facts": facts})
    return 0


def _explained(error: Exception) -> dict[str, str]:
    """Reason and detail of what is no fault of the file; a defect's traceback goes into the validation's log.

    Raises what else the system says: the child ends by it, and the validation is tried again.
    """
    if not isinstance(error, OSError):
        traceback.print_exception(error)
        return {"reason": "internal", "detail": f"{type(error).__name__}: {error}"}
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        raise error
    return {"reason": "storage_error", "detail": f"the scratch folder: {error.strerror}; free some space"}
