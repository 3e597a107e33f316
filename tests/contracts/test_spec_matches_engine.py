"""The contract and the engine say the same: what the service promises, the engine can."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stillhouse.spec import JobSpec
from stillhouse.spec.catalog import FILE, architectures
from stillhouse.spec.datasets import DATASETS
from stillhouse.spec.layers import Layer, LayerShapeError, trace
from stillhouse.spec.methods import METHODS as PROMISED
from stillhouse.spec.reasons import REASONS, STATUSES, TERMINAL
from stillhouse.spec.training import Augmentation, Training
from worker.catalog import catalog
from worker.engine.architectures import ARCHITECTURES
from worker.engine.architectures.layers import build_layers
from worker.engine.augment import AUGMENTATIONS
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.torchvision_sets import SETS
from worker.engine.errors import EngineError
from worker.engine.evaluate import count_flops
from worker.engine.methods import METHODS
from worker.engine.optim import build_optimizer, build_schedule

LAYERS: TypeAdapter[list[Layer]] = TypeAdapter(list[Layer])


def test_every_method_is_promised_with_the_engines_own_fields_and_defaults() -> None:
    assert set(PROMISED) == set(METHODS)
    for name, method in METHODS.items():
        offered = {field: info.default for field, info in PROMISED[name].model_fields.items() if field != "name"}
        taken = {parameter.name: parameter.default for parameter in inspect.signature(method).parameters.values()}
        assert offered == taken, name


def test_the_architectures_file_is_what_the_engine_gives() -> None:
    assert json.loads(FILE.read_text()) == catalog(), "run: make catalog"
    assert set(architectures()) == set(ARCHITECTURES)


def test_built_in_data_sets_are_as_described() -> None:
    assert set(DATASETS) == set(BUILTIN)
    for name, known in SETS.items():
        assert (known.mean, known.std) == (DATASETS[name].mean, DATASETS[name].std)
        assert not known.classes or known.classes == DATASETS[name].classes
    found = BUILTIN["digits"](None, FILE)
    promised = DATASETS["digits"]
    assert (found.classes, found.mean, found.std) == (promised.classes, promised.mean, promised.std)
    assert (len(found.train), tuple(found.train.images.shape[1:])) == (promised.train, promised.shape)
    pixels = found.train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(promised.mean[0], abs=1e-3)
    assert pixels.std().item() == pytest.approx(promised.std[0], abs=1e-3)


def test_augmentations_are_the_same() -> None:
    assert get_args(Augmentation) == AUGMENTATIONS


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "multistep", "cosine"])
def test_every_optimizer_and_schedule_can_be_built(optimizer: str, schedule: str) -> None:
    training = Training.model_validate({"optimizer": {"name": optimizer}, "schedule": {"name": schedule}})
    build_optimizer([torch.nn.Parameter(torch.zeros(1))], training.optimizer.model_dump())
    assert build_schedule(training.schedule.model_dump()).factor(1, 10) <= 1


def test_every_reason_of_the_engine_is_in_the_total_table() -> None:
    for error in EngineError.__subclasses__():
        assert error.reason in REASONS, error
    for name, reason in REASONS.items():
        assert reason.status in STATUSES, name
        assert reason.retryable == (reason.status == "queued"), name
        assert reason.remedy, name
    assert set(STATUSES) >= TERMINAL


def test_a_spec_survives_json_and_yaml_unchanged() -> None:
    layers = [
        {"name": "residual", "layers": [{"name": "conv", "channels": 8}]},
        {"name": "flatten"},
        {"name": "linear"},
    ]
    given_spec = {
        "dataset": {"id": "digits"},
        "teacher": {"architecture": "resnet8"},
        "student": {"layers": layers},
        "resources": {"max_runtime": "6h"},
    }
    spec = JobSpec.model_validate(given_spec).complete()
    assert spec.resources.max_runtime == 6 * 3600
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def flat_layers() -> st.SearchStrategy[list[dict[str, Any]]]:
    conv = st.fixed_dictionaries(
        {"name": st.just("conv"), "channels": st.sampled_from([2, 4, 6]), "kernel": st.integers(1, 5)},
        optional={
            "stride": st.integers(1, 3),
            "padding": st.integers(0, 2),
            "groups": st.integers(1, 2),
            "bias": st.booleans(),
        },
    )
    pool = st.fixed_dictionaries({"name": st.sampled_from(["maxpool", "avgpool"]), "kernel": st.integers(1, 3)})
    plain = st.sampled_from([{"name": name} for name in ("batchnorm", "relu", "gelu", "dropout")])
    residual = st.fixed_dictionaries(
        {"name": st.just("residual"), "layers": st.lists(conv | plain, min_size=1, max_size=3)}
    )
    body = st.lists(conv | pool | plain | residual, max_size=5)
    ends = st.sampled_from(
        [
            [{"name": "globalpool"}, {"name": "linear"}],
            [{"name": "flatten"}, {"name": "linear", "features": 5}, {"name": "batchnorm"}, {"name": "linear"}],
        ]
    )
    return st.tuples(body, ends).map(lambda parts: [*parts[0], *parts[1]])


@settings(max_examples=150, deadline=None)
@given(flat_layers())
def test_the_arithmetic_of_layers_is_the_built_networks(listed: list[dict[str, Any]]) -> None:
    layers = LAYERS.validate_python(listed)
    described = [layer.model_dump() for layer in layers]
    try:
        traced = trace(layers, input_shape=(2, 9, 9), classes=3)
    except LayerShapeError:
        with pytest.raises(Exception):  # noqa: B017, PT011  # whatever torch or the builder says, it does not run
            build_layers(described, classes=3, channels=2, size=(9, 9))(torch.zeros(2, 2, 9, 9))
        return
    network = build_layers(described, classes=3, channels=2, size=(9, 9)).eval()
    assert traced.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert 2 * traced.macs == count_flops(network, (2, 9, 9))
    values = torch.zeros(1, 2, 9, 9)
    for module, shape in zip(network, traced.shapes, strict=True):
        values = module(values)
        assert tuple(values.shape[1:]) == shape
