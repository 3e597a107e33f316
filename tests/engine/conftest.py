"""Small data and small networks, so that a training takes a blink."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from worker.engine.data import Dataset, ImageSet, RawDataset
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.split import split_dataset
from worker.engine.method import Batch, Method
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.optim import Constant
from worker.engine.precision import Precision
from worker.engine.run import Recipe, Run
from worker.engine.teacher import LiveTeacher, TeacherSource

torch.set_num_threads(1)  # tiny tensors: two threads that wait for each other on a busy machine are 20 times slower

FP32 = Precision("fp32", scales_gradients=False)
ADAM = {"name": "adam", "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}
CONV = {"name": "conv", "kernel": 3, "stride": 1, "padding": None, "groups": 1, "bias": True}
LAYERS = [
    {**CONV, "channels": 6},
    {"name": "batchnorm"},
    {"name": "relu"},
    {"name": "dropout", "rate": 0.3},
    {"name": "flatten"},
    {"name": "linear", "features": None},
]


@pytest.fixture(scope="session")
def raw() -> RawDataset:
    """400 of the digits."""
    whole = BUILTIN["digits"](None, Path())
    return RawDataset(whole.name, whole.classes, whole.mean, whole.std, whole.train.take(torch.arange(400)), None)


@pytest.fixture(scope="session")
def digits(raw: RawDataset) -> Dataset:
    return split_dataset(raw, validation=0.15, seed=3)


def first(count: int) -> Batch:
    """The first samples of a training split, whatever their labels."""
    return Batch(torch.zeros(count, dtype=torch.int64), torch.arange(count), 1, 0)


def network(seed: int = 1, *, layers: list[dict] | str = LAYERS, shape: tuple[int, int, int] = (1, 8, 8)) -> Network:  # type: ignore[type-arg]
    return build_network(architecture=layers, classes=10, preprocessing=Preprocessing(shape, (0.3,), (0.4,)), seed=seed)


def teacher(digits: Dataset, *, hidden: list[dict] = []) -> LiveTeacher:  # type: ignore[type-arg]  # noqa: B006
    """A network that knows the digits, by a closed-form fit of its last layer; ``hidden`` layers stay random."""
    flat = network(5, layers=[*hidden, {"name": "flatten"}, {"name": "linear", "features": None}])
    before, linear = flat.body[:-1].eval(), flat.body[-1]  # type: ignore[index]
    with torch.no_grad():
        inputs = before((digits.train.images.float() / 255 - 0.3) / 0.4)
    targets = torch.nn.functional.one_hot(digits.train.labels, 10).float() * 8
    ones = torch.ones(len(inputs), 1)
    solution = torch.linalg.lstsq(torch.cat([inputs, ones], 1), targets, driver="gelsd").solution
    with torch.no_grad():
        linear.weight.copy_(solution[:-1].T)
        linear.bias.copy_(solution[-1])
    return LiveTeacher(flat, precision=FP32)


def run(
    digits: Dataset,
    *,
    method: Method | None = None,
    taught_by: TeacherSource | None = None,
    train: ImageSet | None = None,
    epochs: int = 2,
    precision: Precision = FP32,
    seed: int = 7,
    optimizer: dict | None = None,  # type: ignore[type-arg]
    augmentation: str = "crop",
    student: Network | None = None,
    compiled: bool = False,
) -> Run:
    recipe = Recipe(
        epochs=epochs,
        batch_size=32,
        optimizer=optimizer or ADAM,
        schedule=Constant(),
        augmentation=augmentation,
        precision=precision,
        seed=seed,
        log_every=3,
        compile=compiled,
    )
    return Run(
        student=student or network(),
        method=method or METHODS["none"](),
        teacher=taught_by,
        train=train or digits.train,
        validation=digits.validation,
        recipe=recipe,
    )
