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
from worker.sandbox import Protections

UPLOAD, BUNDLE, SCRATCH, DATASET = Path("upload"), Path("bundle"), Path("unpacked"), Path("dataset")


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
    # private memory alone counts, so files may be mapped at any size
    resource.setrlimit(resource.RLIMIT_DATA, (plan["memory_bytes"], plan["memory_bytes"]))
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    facts: dict[str, Any] | None = None
    try:
        facts = VALIDATIONS[plan["table"]](plan, report, emitter.alive)
    except EngineError as error:
        report["problems"] = [f"{error} {error.remedy}".strip()]
    except MemoryError:
        report["problems"] = [f"it needs more than {plan['memory_bytes']:,} bytes of memory to be looked into"]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        emitter.emit("failed", reason="storage_error", detail=f"the scratch folder: {error.strerror}; free some space")
        return 1
    except Exception as error:  # noqa: BLE001  # told to the supervisor, with the traceback in the validation's log
        traceback.print_exc()
        emitter.emit("failed", reason="internal", detail=f"{type(error).__name__}: {error}")
        return 1
    report["sandbox"] = {"held": protections.held, "missing": protections.missing}
    emitter.emit("result", result={"report": report, "facts": facts})
    return 0
