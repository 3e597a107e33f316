"""An uploaded network, once, in the sandbox: weights become safetensors, an ONNX file is looked through and kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.engine import recorded, weights
from worker.engine.blackbox import BlackBox
from worker.engine.network import Preprocessing, build_network, head_names


def convert(
    upload: Path, target: Path, *, scratch: Path, declared: Mapping[str, Any], report: dict[str, Any]
) -> dict[str, Any]:
    """Write ``model.safetensors`` (or ``model.onnx``) and ``model.json`` into ``target``; what jobs must know of it.

    ``declared`` has architecture, classes and, but for logits, mean, std and input_size. ``scratch`` is a file that may
    be written; ``report`` grows along. Raises EngineError.
    """
    if declared["architecture"] == recorded.LOGITS:
        return recorded.keep(upload, target, scratch=scratch, classes=declared["classes"], report=report)
    side, channels, classes = declared["input_size"], len(declared["mean"]), declared["classes"]
    shape = Preprocessing((channels, side, side), tuple(declared["mean"]), tuple(declared["std"]))
    if declared["architecture"] == weights.ONNX:
        return _keep_black_box(upload, target, shape, classes, report)
    network = build_network(architecture=declared["architecture"], classes=len(classes), preprocessing=shape, seed=0)
    head = head_names(network.body, declared["architecture"], classes=len(classes), preprocessing=shape)
    found = weights.read(upload)
    report |= {"format": found.format, "wrappers": list(found.wrappers), "tensors": len(found.tensors)}
    report["set_aside"] = found.set_aside
    report["fitted"] = weights.fit(network.body, found.tensors, head=head).describe()
    parameters = sum(parameter.numel() for parameter in network.body.parameters())
    facts = weights.describe(declared["architecture"], "standard", shape, classes, parameters)
    weights.save(target, "model", network.body.state_dict(), facts)
    return facts


def _keep_black_box(
    upload: Path, target: Path, shape: Preprocessing, classes: list[str], report: dict[str, Any]
) -> dict[str, Any]:
    """Opened once, so that a file that no job could use is refused now."""
    report["format"] = weights.ONNX
    BlackBox(upload, classes=len(classes))
    facts = weights.describe(weights.ONNX, "standard", shape, classes, 0)
    target.mkdir(exist_ok=True)
    shutil.copyfile(upload, target / "model.onnx")
    (target / "model.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts
