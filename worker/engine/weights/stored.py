"""The staged form of a network's weights: NAME.safetensors and NAME.json, the form of a job's student.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor

from worker.engine.blackbox import BlackBox, Kind
from worker.engine.errors import WeightsRefused
from worker.engine.methods import simkd
from worker.engine.network import Description, Network, Preprocessing, Stem, build_network, head_names
from worker.engine.random import derive
from worker.engine.weights.fit import Fitted, fit
from worker.engine.weights.read import read

ONNX = "onnx"
"""The architecture of a black box: its file, NAME.onnx, takes the place of the weights."""


@dataclass(frozen=True)
class Stored:
    """Weights, with what they belong to."""

    architecture: Description
    stem: Stem
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    additions: Mapping[str, Any] = field(default_factory=dict)
    """What a method put into the network beyond its architecture; see ``simkd.reshape``."""


def describe(
    architecture: Description, stem: Stem, preprocessing: Preprocessing, classes: Sequence[str], parameters: int
) -> dict[str, Any]:
    """The JSON beside the weights: enough to rebuild the network."""
    return {
        "architecture": architecture if isinstance(architecture, str) else {"layers": list(architecture)},
        **({"stem": stem} if stem != "standard" else {}),
        "input": {
            "shape": list(preprocessing.shape),
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
        },
        "classes": list(classes),
        "parameters": parameters,
    }


def save(folder: Path, name: str, tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> None:
    """Write both files; the description comes last, so its presence means that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{name}.safetensors", tensors)
    (folder / f"{name}.json").write_text(json.dumps(described, indent=2) + "\n")


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """As safetensors, by name; equal tensors give equal bytes."""
    # its own save_file goes by the whole path, and the folders above may be closed to who writes here
    path.write_bytes(serialised({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}))


def load(folder: Path, name: str) -> Stored:
    """Read both files. Raises WeightsRefused where they are not what ``save`` writes."""
    try:
        described = json.loads((folder / f"{name}.json").read_text())
        architecture, given = described["architecture"], described["input"]
        channels, height, width = given["shape"]
        return Stored(
            architecture=architecture if isinstance(architecture, str) else architecture["layers"],
            stem=described.get("stem", "standard"),
            preprocessing=Preprocessing((channels, height, width), tuple(given["mean"]), tuple(given["std"])),
            classes=tuple(described["classes"]),
            tensors={} if architecture == ONNX else read(folder / f"{name}.safetensors").tensors,
            additions={key: described["additions"][key] for key in ("after", "classifier", "channels")}
            if "additions" in described
            else {},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsRefused(
            f"the description of the {name}'s weights is not whole: {error!r}.", remedy="Upload the model again."
        ) from error


def open_black_box(folder: Path, name: str, *, classes: Sequence[str], samples: Tensor) -> tuple[Network, Kind]:
    """The network of NAME.onnx, and what its answers to ``samples`` (float [N, C, H, W] in 0 to 1) are.

    Raises WeightsRefused where the classes are others, or in another order.
    """
    stored = load(folder, name)
    if stored.classes != tuple(classes) and set(stored.classes) == set(classes):
        raise WeightsRefused(
            "the ONNX file's classes are the data's in another order.", remedy="Export it with the data's order."
        )
    body = BlackBox(folder / f"{name}.onnx", classes=len(classes))
    network = Network(body, stored.preprocessing).eval()
    return network, body.recognise(network.prepare(samples))


def rebuild(
    stored: Stored,
    *,
    classes: Sequence[str],
    side: int | None = None,
    seed: int = 0,
    replace_head: bool = False,
) -> tuple[Network, Fitted]:
    """The network of ``stored`` for data of ``classes``; ``side`` has images resized to another size than its own.

    A classifier of the same classes in another order is put into theirs. Raises WeightsRefused where the classes
    differ, unless ``replace_head``: then a new last layer is a function of ``seed``.
    """
    given = stored.preprocessing
    shape = given.shape if side is None else (given.shape[0], side, side)
    preprocessing = Preprocessing(shape, given.mean, given.std)
    network = build_network(
        architecture=stored.architecture,
        classes=len(classes),
        preprocessing=preprocessing,
        seed=seed,
        stem=stored.stem,
    )
    head = head_names(
        network.body, stored.architecture, classes=len(classes), preprocessing=preprocessing, stem=stored.stem
    )
    if stored.additions:
        _add(network, stored.additions, classes=len(classes), seed=seed)
    tensors = dict(stored.tensors)
    same = len(stored.classes) == len(classes) and set(stored.classes) == set(classes)
    if same:
        order = [stored.classes.index(name) for name in classes]
        tensors |= {name: tensors[name][order] for name in head & tensors.keys() if len(tensors[name]) == len(order)}
    elif replace_head:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in head}
    return network, fit(network.body, tensors, head=head, replace_head=replace_head)


def _add(network: Network, additions: Mapping[str, Any], *, classes: int, seed: int) -> None:
    """Make the network the larger one that was trained. Raises WeightsRefused."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "additions"))
            simkd.reshape(network.body, classes=classes, **additions)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsRefused(
            f"the additions {dict(additions)} do not suit the network: {error}.",
            remedy="Use the description that came with the weights.",
        ) from error
    network.additions = dict(additions)


def restore(folder: Path, name: str = "student") -> Network:
    """The network of a job's downloaded bundle, ready to answer: ``restore(Path("demo-output"))``."""
    stored = load(folder, name)
    return rebuild(stored, classes=stored.classes)[0].eval()
