"""Weights to a network: matched by name, then by order where every shape and kind agrees; no further guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.errors import WeightsRefused

_PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "student.",
    "teacher.",
    "body.",
    "ema.",
)
FINE_TUNE = "Give it `train: {epochs: ...}` to be fine-tuned with a new last layer, or choose data of those classes."
_COUNTER = "num_batches_tracked"
_SHOWN = 5


@dataclass
class Fitted:
    """What came of it."""

    prefix: str = ""
    """Peeled from the file's names."""
    by_name: int = 0
    by_order: dict[str, str] = field(default_factory=dict)
    """The network's name to the file's."""
    new_head: list[str] = field(default_factory=list)
    """Of the classifier: not loaded, because its classes are others."""
    left_over: list[str] = field(default_factory=list)
    """In the file, not in the network."""

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def fit(
    body: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    head: frozenset[str] = frozenset(),
    replace_head: bool = False,
    remedy: str = FINE_TUNE,
) -> Fitted:
    """Load ``tensors`` into ``body``. ``head`` names its classifier's weights, which ``replace_head`` lets differ.

    ``remedy`` is what helps where nothing but the number of classes differs.

    Raises WeightsRefused where a weight or a statistic of the network stays without a value.
    """
    wanted = {name: tensor for name, tensor in body.state_dict().items() if not name.endswith(_COUNTER)}
    prefix, named = _peel(wanted, tensors)
    given = {name: tensor for name, tensor in named.items() if not name.endswith(_COUNTER)}
    pairs = {name: name for name, tensor in wanted.items() if name in given and _fits(given[name], tensor)}
    report = Fitted(prefix=prefix, by_name=len(pairs))
    missing = [name for name in wanted if name not in pairs]
    rest = [name for name in given if name not in pairs]
    if missing:
        by_order = _by_order(wanted, given, missing, rest, head if replace_head else frozenset())
        report.by_order = by_order
        pairs |= by_order
        missing = [name for name in missing if name not in by_order]
        rest = [name for name in rest if name not in set(by_order.values())]
    if missing and not (replace_head and set(missing) <= head):
        raise WeightsRefused(_why(wanted, given, missing, rest, head), remedy=_remedy(missing, head, remedy))
    report.new_head, report.left_over = missing, rest
    known = body.state_dict()
    state = {name: _cast(name, given[source], known[name]) for name, source in pairs.items()}
    counters = {name: tensor for name, tensor in named.items() if name.endswith(_COUNTER) and tensor.shape == ()}
    state |= {name: tensor.to(known[name].dtype) for name, tensor in counters.items() if name in known}
    body.load_state_dict(state, strict=False)
    return report


def _cast(name: str, given: Tensor, wanted: Tensor) -> Tensor:
    """``given`` in the shape and dtype of the network's own. Raises WeightsRefused where that would change what it is.

    Integers in the place of weights are mostly quantised, and worth nothing without their scale.
    """
    if (given.is_floating_point(), given.is_complex()) != (wanted.is_floating_point(), wanted.is_complex()):
        raise WeightsRefused(
            f"{name} is {_type(given)} in the file and {_type(wanted)} in the network.",
            remedy="Store the weights as floating-point numbers, before any quantisation.",
        )
    cast = given.reshape(wanted.shape).to(wanted.dtype)
    if not bool(torch.isfinite(cast).all()):
        raise WeightsRefused(
            f"the weights of {name} are not all finite as {_type(wanted)}.", remedy="Train the network again."
        )
    return cast


def _peel(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The prefix whose removal makes the most names known, and what remains of the file under it."""
    candidates = {""}
    for name in tensors:
        peeled = ""
        while following := next((known for known in _PREFIXES if name.startswith(known, len(peeled))), None):
            peeled += following
            candidates.add(peeled)
    ordered = sorted(candidates, key=lambda prefix: (len(prefix), prefix))

    def score(prefix: str) -> tuple[int, int]:
        names = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
        return len(names & set(wanted)), len(names)

    best = max(ordered, key=score)
    under = {name.removeprefix(best): tensor for name, tensor in tensors.items() if name.startswith(best)}
    outside = {name: tensor for name, tensor in tensors.items() if not name.startswith(best)}
    return best, {**outside, **under}


def _by_order(
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: list[str],
    rest: list[str],
    replaceable: frozenset[str],
) -> dict[str, str]:
    """Pairs in order, if shapes and kinds agree from the first to the last; otherwise none at all."""
    if len(missing) != len(rest):
        return {}
    pairs = dict(zip(missing, rest, strict=True))
    for name, source in pairs.items():
        alike = _kind(name) == _kind(source)
        if not alike or (not _fits(given[source], wanted[name]) and name not in replaceable):
            return {}
    return {name: source for name, source in pairs.items() if _fits(given[source], wanted[name])}


def _fits(given: Tensor, wanted: Tensor) -> bool:
    """Equal shapes; or a linear layer and the convolution over a whole map that computes the same."""
    if given.shape == wanted.shape:
        return True
    linear = 2 in {given.ndim, wanted.ndim} and 4 in {given.ndim, wanted.ndim}
    return linear and given.shape[0] == wanted.shape[0] and given.numel() == wanted.numel()


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _why(
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    missing: list[str],
    rest: list[str],
    head: frozenset[str],
) -> str:
    other = [name for name in missing if name in given]
    if set(missing) <= head and other:
        theirs, ours = (len(source[other[0]]) for source in (given, wanted))
        return f"the weights tell {theirs} classes apart, where {ours} are wanted."
    if other:
        name = other[0]
        return f"{name} is {_shape(given[name])} in the file and {_shape(wanted[name])} in the network."
    return (
        f"{len(missing)} of the network's {len(wanted)} tensors are not in the file ({listed(missing)}), which holds "
        f"{len(rest)} others ({listed(rest)})."
    )


def _remedy(missing: list[str], head: frozenset[str], of_classes: str) -> str:
    if set(missing) <= head:
        return of_classes
    return "Check that the architecture, its input channels and its stem are those the weights were trained with."


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def listed(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "none"
