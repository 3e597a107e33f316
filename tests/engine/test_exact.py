"""The same bytes after a stop at any step, nothing read from the device in a step, and nothing kept of it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engine.team_member import BATCH, EXACT, LAYERS, ROUGH, SGD, made
from worker.engine import distill as loop
from worker.engine.distill import distill
from worker.engine.errors import Diverged
from worker.engine.events import EpochFinished, StepFinished
from worker.engine.methods import METHODS
from worker.engine.methods.combination import Combination
from worker.engine.precision import Precision
from worker.engine.run import Run
from worker.engine.team import Team

BF16 = Precision("bf16", scales_gradients=False)
Build = Callable[[Team | None], Run]


def all_that_could_lose_its_place(precision: Precision) -> Run:
    """Dropout, batch norm, views, a memory, projectors with statistics of their own, a warm-up, Adam, selection."""
    methods: list[tuple[str, float, Any]] = [
        ("dkd", 1.0, METHODS["dkd"](warmup_epochs=2)),
        ("crd", 0.5, METHODS["crd"](negatives=40)),
        ("fitnet", 0.1, METHODS["fitnet"]()),
    ]
    adam = {"name": "adam", "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}
    return made(None, method=Combination(methods), layers=LAYERS, optimizer=adam, precision=precision)


STOPPED: dict[str, Build] = {
    "combination, fp32": lambda _: all_that_could_lose_its_place(Precision("fp32", scales_gradients=False)),
    "combination, bf16": lambda _: all_that_could_lose_its_place(BF16),
    "several teachers": EXACT["several teachers"],
    "patient": EXACT["patient"],
    "simkd": EXACT["simkd"],
    "bf16": ROUGH["bf16"],
}


@pytest.mark.parametrize("name", STOPPED)
def test_a_training_stopped_at_any_step_ends_with_the_same_bytes(name: str) -> None:
    build = STOPPED[name]
    undisturbed = build(None)
    kept = []
    for event in distill(undisturbed):
        if isinstance(event, StepFinished | EpochFinished):
            file = io.BytesIO()
            torch.save(undisturbed.state_dict(), file)
            kept.append(file)
    assert len(kept) == undisturbed.recipe.epochs * (undisturbed.steps + 1)
    for file in kept:
        file.seek(0)
        resumed = build(None)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for _ in distill(resumed):
            pass
        for given, expected in zip(resumed.result_state().values(), undisturbed.result_state().values(), strict=True):
            assert torch.equal(given, expected)
        assert (resumed.history, resumed.best_epoch) == (undisturbed.history, undisturbed.best_epoch)


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for the device: values that are read, and sizes that depend on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __enter__(self) -> Self:
        self._patched = patch.object(Tensor, "tolist", lambda _: self.found.append("tolist"))
        self._patched.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patched.stop()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        masks = name in ("index", "index_put_", "_index_put_impl_") and any(
            place is not None and place.dtype in (torch.bool, torch.uint8) for place in args[1]
        )
        if name in self.WAITING or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_reads_are_counted() -> None:
    with Reads() as reads:
        values = torch.arange(3)
        values.tolist()
        bool(values.sum() == 0)
        values[values > 1]
    assert reads.found == ["tolist", "_local_scalar_dense", "index"]


@pytest.mark.parametrize("name", EXACT)
def test_a_step_reads_nothing_from_the_device(name: str) -> None:
    run = EXACT[name](None)
    with Reads() as reads:
        for step in range(2):
            loop._step(run, torch.arange(step * BATCH, (step + 1) * BATCH))
            run.step += 1
    assert reads.found == []


def test_the_loss_is_read_once_in_a_window_and_not_for_each_step() -> None:
    reads = []
    for every in (1, 100):
        run = made(None, method=METHODS["none"]())
        run.recipe = replace(run.recipe, log_every=every)
        with patch.object(Run, "checked_sums", autospec=True, side_effect=Run.checked_sums) as read:
            finished = (event for event in distill(run) if isinstance(event, EpochFinished))
            assert next(finished).epoch == 1
        reads.append(read.call_count)
    assert reads == [run.steps + 1, 1 + 1]


def test_a_loss_that_grows_beyond_all_measure_ends_the_training() -> None:
    run = made(None, method=METHODS["none"](), optimizer={**SGD, "lr": 3000.0})
    with pytest.raises(Diverged, match=r"the loss was 2\.\d+ at first and is .* in epoch 1"):
        for _ in distill(run):
            pass


def test_nothing_is_kept_of_a_step() -> None:
    """What a run holds grows by the epoch's figures alone, however many steps an epoch has."""
    run = EXACT["combination"](None)
    run.recipe = replace(run.recipe, epochs=4)
    sizes = [_size(run.state_dict()) for event in distill(run) if isinstance(event, StepFinished) and run.epoch > 2]
    assert len(run.history) == 4
    within = [sizes[place : place + run.steps] for place in (0, run.steps)]
    assert all(len(set(epoch)) == 1 for epoch in within), within
    figures = len(pickle.dumps(run.history[-1]))
    assert within[1][0] - within[0][0] <= figures


def _size(state: dict[str, Any]) -> int:
    """Bytes of tensors, and of all else as it is written."""
    tensors: list[int] = []

    def count(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value.numel() * value.element_size())
            return None
        if isinstance(value, dict):
            return {name: count(item) for name, item in value.items() if name not in ("position", "read", "step")}
        return [count(item) for item in value] if isinstance(value, list | tuple) else value

    return len(pickle.dumps(count(state))) + sum(tensors)
