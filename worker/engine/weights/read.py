"""A file of weights to its tensors: safetensors, or what torch.save wrote, and nothing in it is ever run.

Everything is checked before it is used: what an archive unpacks to, what a tensor claims against the bytes it has.
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from worker.engine.errors import WeightsRefused
from worker.engine.memory import out_of_memory

MAX_BYTES = 16 * 2**30
_MAX_MEMBERS = 200_000
_MAX_RATIO = 20
_MAX_DEPTH = 4
_REMEDY = "Save it again with torch.save(model.state_dict(), FILE), or as safetensors."
_PREFERRED = (
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "student",
    "teacher",
    "backbone",
    "weights",
    "params",
    "module",
)
"""Wrappers by precedence: of averaged and raw weights the averaged ones are those a paper's figure is of."""
_BAGGAGE = re.compile(r"optim|sched|scaler|amp|loop|callback|hparam|hyper|config|args|criterion|loss", re.IGNORECASE)
_STRAY = re.compile(r"(^|[._])(mask|total_ops|total_params|n_averaged)$")


@dataclass(frozen=True)
class Found:
    """What a file holds."""

    format: str
    wrappers: tuple[str, ...]
    """The keys that led to the weights, from the outermost."""
    tensors: dict[str, Tensor]
    set_aside: list[str] = field(default_factory=list)
    """Tensors that are no weights of a network (masks, counters)."""


def read(path: Path, *, max_bytes: int = MAX_BYTES) -> Found:
    """The tensors of ``path``. Raises WeightsRefused, with a remedy, for whatever is not plainly a set of weights.

    What the memory does not suffice for raises as it does, since that says nothing of the file.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise WeightsRefused(
            f"the file has {size:,} bytes; at most {max_bytes:,} are read.", remedy="Save the weights alone, in fp16."
        )
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PK\x03\x04":
        _check_archive(path, size, max_bytes)
        loaded, kind = _load(path), "torch"
    elif head[8:9] == b"{":
        loaded, kind = _load_safetensors(path), "safetensors"
    elif head[:1] == b"\x80":
        loaded, kind = _load(path), "torch (before 1.6)"
    else:
        raise WeightsRefused("the file is neither safetensors nor what torch.save writes.", remedy=_REMEDY)
    wrappers, state = _unwrap(loaded)
    for name, tensor in state.items():
        _check_tensor(name, tensor)
    strays = [name for name in state if _STRAY.search(name)]
    return Found(kind, wrappers, {name: state[name] for name in state if name not in strays}, strays)


def _check_archive(path: Path, size: int, max_bytes: int) -> None:
    """Only what torch.save makes: no program, and nothing that unpacks to much more than it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightsRefused(f"the archive is damaged: {error}.", remedy="Copy the file again.") from error
    if len(members) > _MAX_MEMBERS:
        raise WeightsRefused(f"the archive has {len(members):,} members; at most {_MAX_MEMBERS:,} are read.")
    claimed = sum(member.file_size for member in members)
    if claimed > max_bytes or claimed > _MAX_RATIO * size:
        raise WeightsRefused(f"the archive of {size:,} bytes claims to unpack to {claimed:,}.", remedy=_REMEDY)
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise WeightsRefused("this is a TorchScript archive, which holds a program.", remedy=_REMEDY)
    if "archive_format" in names or "serialized_exported_program.json" in {member.filename for member in members}:
        raise WeightsRefused("this is an exported program (.pt2), which is not opened.", remedy=_REMEDY)
    if "data.pkl" not in names:
        raise WeightsRefused("this is an archive, but not one that torch.save wrote.", remedy=_REMEDY)


def _load(path: Path) -> Any:
    try:
        # plain settings are in many training scripts' files
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about the age of the file's format
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"{named[1]}, an object" if named else "objects"
        message = f"the file holds {what} beside its weights, and to load that would run code; nothing of it was run."
        raise WeightsRefused(message, remedy=_REMEDY) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsRefused(f"the file is damaged: {reason}.", remedy=_REMEDY) from error


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        loaded: dict[str, Tensor] = load_file(path)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise WeightsRefused(f"the safetensors file is damaged: {error}.", remedy="Copy or save it again.") from error
    return loaded


def _unwrap(loaded: Any) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    if isinstance(loaded, torch.nn.Module):
        raise WeightsRefused("the file holds a whole network, code included.", remedy=_REMEDY)
    found = list(_state_dicts(loaded, ()))
    if not found:
        raise WeightsRefused("no tensors with names were found in the file.", remedy=_REMEDY)
    ranked = sorted(found, key=lambda item: _rank(item[0]))
    if len(ranked) > 1 and _rank(ranked[0][0]) == _rank(ranked[1][0]) == len(_PREFERRED):
        places = ", ".join(".".join(path) for path, _ in ranked[:5])
        raise WeightsRefused(f"the file holds several sets of weights ({places}).", remedy="Save the one to use alone.")
    return ranked[0]


def _state_dicts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping that holds tensors by name, with the way to it; what an optimizer keeps is not looked at."""
    if not isinstance(value, Mapping) or len(path) > _MAX_DEPTH:
        return
    tensors = {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}
    if any(tensor.ndim > 0 for tensor in tensors.values()):
        yield path, tensors
    for name, item in value.items():
        if isinstance(name, str) and not _BAGGAGE.search(name):
            yield from _state_dicts(item, (*path, name))


def _rank(path: tuple[str, ...]) -> int:
    return min((_PREFERRED.index(name) for name in path if name in _PREFERRED), default=len(_PREFERRED))


def _check_tensor(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise WeightsRefused(
            f"the tensor {name} is sparse, quantized or without data.", remedy="Save dense floating-point weights."
        )
    claimed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > held:
        shape = "x".join(map(str, tensor.shape))
        message = f"the tensor {name} claims {claimed:,} bytes ({shape}) where the file holds {held:,}."
        raise WeightsRefused(message, remedy=_REMEDY)
