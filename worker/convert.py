"""An uploaded file of weights to safetensors and its description, once, in the sandbox."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from worker.engine.errors import UnusableUpload
from worker.engine.exports.safetensors import export
from worker.engine.network import Preprocessing, build_network

_COUNTERS = "num_batches_tracked"
_NAMED = 5


def convert(upload: Path, target: Path, *, declared: Mapping[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``model.json`` into ``target``; what jobs must know of the model.

    ``declared`` has architecture, classes, mean, std and input_size. ``report`` grows along. Raises EngineError.
    """
    side, channels = declared["input_size"], len(declared["mean"])
    preprocessing = Preprocessing((channels, side, side), tuple(declared["mean"]), tuple(declared["std"]))
    network = build_network(
        architecture=declared["architecture"], classes=len(declared["classes"]), preprocessing=preprocessing, seed=0
    )
    state = _read(upload, report)
    report["tensors"] = len(state)
    wanted = network.body.state_dict()
    _check_fit(state, wanted)
    merged = {name: state.get(name, value).to(value.dtype) for name, value in wanted.items()}
    network.body.load_state_dict(merged)
    target.mkdir(exist_ok=True)
    export(network, target / "model.safetensors")
    facts = {
        "architecture": declared["architecture"],
        "input": {"shape": [channels, side, side], "mean": declared["mean"], "std": declared["std"]},
        "classes": declared["classes"],
        "parameters": sum(parameter.numel() for parameter in network.body.parameters()),
    }
    (target / "model.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def _read(upload: Path, report: dict[str, Any]) -> dict[str, Tensor]:
    """A flat dictionary of sound tensors. Raises UnusableUpload."""
    with upload.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        report["format"] = "safetensors"
        try:
            return load_file(upload)
        except SafetensorError as error:
            raise UnusableUpload(f"the safetensors file is damaged: {error}.", remedy="Upload it again.") from error
    report["format"] = "torch (weights_only)"
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles of another protocol, which are refused anyway
            found = torch.load(upload, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnusableUpload(
            "the file holds more than weights (pickled objects), and nothing of it was run.",
            remedy="Save the state dict alone: torch.save(model.state_dict(), path), or as safetensors.",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UnusableUpload(
            f"it is neither a safetensors file nor one that torch.load can read: {first}.",
            remedy="Upload a state dict: .safetensors, .pt or .pth.",
        ) from error
    if not isinstance(found, dict) or not found:
        raise UnusableUpload(
            f"it holds {type(found).__name__}, not a state dict.", remedy="Save model.state_dict() alone."
        )
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UnusableUpload(
                f"its entry {str(name)[:100]!r} is no tensor but {type(tensor).__name__}.",
                remedy="Save model.state_dict() alone.",
            )
        # a file of a kilobyte may claim terabytes by strides of nothing
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UnusableUpload(f"its tensor {name[:100]!r} claims more than is stored.", remedy="Save it contiguous.")
    return found


def _check_fit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Names and shapes must be those of the architecture; counters of batches may be missing."""
    missing = [name for name in wanted if name not in state and not name.endswith(_COUNTERS)]
    strange = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {list(state[name].shape)} and not {list(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems = [
        f"{len(found)} {what}: {', '.join(found[:_NAMED])}"
        for found, what in ((missing, "missing"), (strange, "unknown"), (shapes, "of another shape"))
        if found
    ]
    if problems:
        raise UnusableUpload(
            f"the tensors do not fit the architecture ({'; '.join(problems)}).",
            remedy="Choose the architecture, the classes and the input they were trained with.",
        )
    broken = [
        name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if broken:
        raise UnusableUpload(
            f"{len(broken)} tensors hold NaN or infinity: {', '.join(broken[:_NAMED])}.", remedy="Upload sound weights."
        )
