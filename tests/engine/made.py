"""Made features, small enough for formulas by hand, and methods ready for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from worker.engine.method import Batch, Method, Outputs, Setting
from worker.engine.methods import METHODS

Arrays = dict[str, np.ndarray]
B, C = 6, 5
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "student": {"s1": (2, 4, 4), "s2": (3, 2, 2), "e": (4,)},
    "teacher": {"t1": (3, 4, 4), "t2": (2, 4, 4), "te": (5,)},
}
KINDS = {
    "student": {"stages": ("s1", "s2"), "middle": ("s1",), "last": ("s2",), "embedding": ("e",)},
    "teacher": {"stages": ("t1", "t2"), "middle": ("t1",), "last": ("t2",), "embedding": ("te",)},
}
PAIRS = [("s1", "t1"), ("s2", "t2")]
LABELS = np.array([0, 1, 2, 3, 4, 1])
TRAIN_LABELS = torch.tensor([0, 1, 2, 3, 4, 1, 0, 2, 2, 3, 1, 4])


def ready(name: str, *, classes: int = C, **fields: Any) -> Method:
    """A method on the shapes above, its weights in float64, no two channels alike.

    For simkd s1 stands for projected maps: it has the teacher's channels. There is one view unless two are asked for.
    """
    method = METHODS[name](**({"views": 1} if name == "mlkd" else {}) | fields)
    points = {}
    for tap in method.taps:
        kind = "stages" if tap.kind == "preactivations" else tap.kind
        names = ("s1",) if name == "simkd" and tap.network == "student" else KINDS[tap.network][kind]
        points[tap] = {point: SHAPES[tap.network][point] for point in names}
    torch.manual_seed(11)
    method.prepare(Setting(classes, TRAIN_LABELS, points))
    method.double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def values(seed: int, *, spread: float = 1.0, batch: int = B, classes: int = C) -> tuple[Arrays, Arrays]:
    rng = np.random.default_rng(seed)
    student, teacher = (
        {name: rng.normal(0, spread, (batch, *shape)) for name, shape in SHAPES[role].items()}
        for role in ("student", "teacher")
    )
    return student | {"logits": rng.normal(0, 3, (batch, classes))}, teacher | {
        "logits": rng.normal(0, 3, (batch, classes))
    }


def batch_of(labels: np.ndarray = LABELS, *, epoch: int = 30) -> Batch:
    return Batch(torch.tensor(labels), torch.arange(len(labels)), epoch, 3)


def outputs(arrays: Arrays | dict[str, torch.Tensor]) -> Outputs:
    given = {name: torch.as_tensor(value) for name, value in arrays.items()}
    return Outputs(given["logits"], {name: value for name, value in given.items() if name != "logits"})


def weights(method: Method) -> Arrays:
    return {name: value.detach().numpy() for name, value in method.state_dict().items()}
