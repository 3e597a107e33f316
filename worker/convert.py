"""An uploaded network, once, in the sandbox: weights become safetensors, an ONNX file is looked through and kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from worker.engine import recorded, weights
from worker.engine.blackbox import BlackBox
from worker.engine.errors import WeightsRefused
from worker.engine.network import Network, Preprocessing, build_network, head_names

_CLASSES = "Declare the classes that the weights were trained for, in their order (--classes: names, or how many)."
_KERNEL = 2
"""Dimensions from which on a tensor is the kernel of a layer."""


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
    fitted = weights.fit(network.body, found.tensors, head=head, remedy=_CLASSES)
    report["fitted"] = fitted.describe()
    _judge_left_over(fitted, found.tensors, network, declared["architecture"], report)
    parameters = sum(parameter.numel() for parameter in network.body.parameters())
    facts = weights.describe(declared["architecture"], "standard", shape, classes, parameters)
    weights.save(target, "model", network.body.state_dict(), facts)
    return facts


def _judge_left_over(
    fitted: weights.Fitted, tensors: Mapping[str, Tensor], network: Network, architecture: str, report: dict[str, Any]
) -> None:
    """Kernels that found no place: within a part that the network has, the file is of a deeper one, and is refused.

    Others (a second head, what a training kept beside its network) are warned of. Raises WeightsRefused.
    """
    named = {name.removeprefix(fitted.prefix): tensor for name, tensor in tensors.items()} | dict(tensors)
    kernels = [name for name in fitted.left_over if named[name].is_floating_point() and named[name].ndim >= _KERNEL]
    parts = {name for name, _ in network.body.named_children()}
    deeper = [name for name in kernels if name.partition(".")[0] in parts]
    shown = deeper or kernels
    said = f"{len(shown)} of the file's weights have no place in {architecture} ({weights.listed(shown)})"
    if deeper:
        remedy = "Name the architecture that these weights were trained in."
        raise WeightsRefused(f"{said}: it holds a larger network.", remedy=remedy)
    if kernels:
        report.setdefault("warnings", []).append(f"{said}; they are not used")


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
