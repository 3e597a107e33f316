"""The engine's own loop in each of its modes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from worker.engine.data import ImageSet
from worker.engine.distill import distill
from worker.engine.events import EpochFinished, StepFinished
from worker.engine.method import Method
from worker.engine.network import Network
from worker.engine.optim import MultiStep
from worker.engine.precision import Precision
from worker.engine.run import Recipe, Run
from worker.engine.teacher import TeacherSource

FP32, BF16 = Precision("fp32", scales_gradients=False), Precision("bf16", scales_gradients=False)
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}


def build_recipe(
    *,
    precision: Precision,
    augmentation: str,
    batch: int,
    epochs: int = 10**6,
    milestones: tuple[int, ...] = (),
    seed: int = 0,
    compiled: bool = False,
) -> Recipe:
    """Without end unless ``epochs`` are given; after each of the ``milestones`` the learning rate is a tenth."""
    return Recipe(
        epochs=epochs,
        batch_size=batch,
        optimizer=SGD,
        schedule=MultiStep(milestones, 0.1),
        augmentation=augmentation,
        precision=precision,
        seed=seed,
        compile=compiled,
    )


def build_run(
    student: Network, teacher: TeacherSource | None, images: ImageSet, *, method: Method, recipe: Recipe
) -> Run:
    """A training on one split."""
    return Run(student=student, method=method, teacher=teacher, train=images, validation=None, recipe=recipe)


def epochs(run: Run) -> Iterator[float]:
    """Train for ever; after each epoch its images per second, the first step left out."""
    began, done = 0.0, 0
    for event in distill(run):
        if isinstance(event, StepFinished):
            if event.step == 1:
                began = time.perf_counter()
            elif event.step == event.steps:
                batch = run.recipe.batch_size
                done = min(event.steps * batch, len(run.train)) - batch
                rate = done / (time.perf_counter() - began)
        if isinstance(event, EpochFinished):
            yield rate


@torch.no_grad()
def informed(network: Network, images: ImageSet) -> Network:
    """A network that knows enough of the data to pass for a teacher: its last layer is fitted in closed form."""
    (last,) = [module for module in network.body.modules() if isinstance(module, nn.Linear)][-1:]
    norms = [module for module in network.body.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean of the statistics
    inputs: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _module, given: inputs.append(given[0]))
    shown = [
        part.float().div(255).contiguous(memory_format=torch.channels_last)
        for part in torch.split(images.images[:2048], 256)
    ]
    for norming in (True, False):
        network.train(norming)
        inputs.clear()
        for part in shown:
            network(part)
    hook.remove()
    features = torch.cat(inputs)
    targets = nn.functional.one_hot(images.labels[: len(features)], last.out_features).float() * 8
    ones = torch.ones(len(features), 1)
    solution = torch.linalg.lstsq(torch.cat([features, ones], 1), targets, driver="gelsd").solution
    last.weight.copy_(solution[:-1].T)
    last.bias.copy_(solution[-1])
    return network
