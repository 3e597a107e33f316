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
from stillhouse.spec.catalog import FILE, Footprint, architectures
from stillhouse.spec.datasets import DATASETS
from stillhouse.spec.footprints import FEWEST_PUBLISHED
from stillhouse.spec.layer_points import feature_points
from stillhouse.spec.layers import Layer, LayerShapeError, trace
from stillhouse.spec.methods import METHODS as PROMISED
from stillhouse.spec.reasons import REASONS, STATUSES, TERMINAL
from stillhouse.spec.training import Augmentation, Training
from worker.catalog import entry
from worker.engine.architecture import on_meta
from worker.engine.architectures import ARCHITECTURES, LIBRARIES, find, published
from worker.engine.architectures.layers import build_layers
from worker.engine.augment import AUGMENTATIONS
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.torchvision_sets import SETS
from worker.engine.errors import EngineError
from worker.engine.evaluate import count_flops
from worker.engine.methods import METHODS
from worker.engine.optim import build_optimizer, build_schedule
from worker.engine.points import described, shapes_of

LAYERS: TypeAdapter[list[Layer]] = TypeAdapter(list[Layer])


def test_every_method_is_promised_with_the_engines_own_fields_and_defaults() -> None:
    assert set(PROMISED) == set(METHODS)
    for name, method in METHODS.items():
        fields = PROMISED[name].model_fields.items()
        offered = {field: info.default for field, info in fields if field not in ("name", "weight")}
        signature = inspect.signature(method).parameters.values()
        taken = {parameter.name: parameter.default for parameter in signature}
        taken = {field: list(value) if isinstance(value, tuple) else value for field, value in taken.items()}
        assert offered == taken, name


SAMPLED = [
    *("lenet5", "resnet20", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv2"),
    *("torchvision/resnet18", "torchvision/mobilenet_v3_small", "torchvision/vit_b_16", "torchvision/alexnet"),
    *("timm/resnet18", "timm/vit_tiny_patch16_224", "timm/efficientnet_lite0"),
]


def holds(name: str) -> None:
    """On classes and channels that the file's three numbers were not taken from."""
    known, found = architectures()[name], find(name)
    assert found is not None
    assert (known.family, known.input_size, known.fixed) == (found.family, found.input_size, found.fixed)
    side = max(known.figures.flops)
    body = on_meta(lambda: found.build(17, 2, (side, side)))
    told = known.figures.at((2, side, side), 17)
    assert told.parameters == sum(parameter.numel() for parameter in body.parameters()), f"{name}: run make catalog"
    assert told.flops == count_flops(body, (2, side, side)), f"{name}: run make catalog"


@pytest.mark.parametrize("name", SAMPLED)
def test_the_architectures_file_is_what_the_engine_gives(name: str) -> None:
    holds(name)


def test_the_architectures_file_is_what_make_catalog_writes() -> None:
    entries = json.loads(FILE.read_text())["architectures"]
    for name in ("resnet8", "torchvision/shufflenet_v2_x0_5", "timm/test_resnet"):
        assert entries[name] == entry(name), "run: make catalog"


def test_the_architectures_file_is_complete() -> None:
    assert set(ARCHITECTURES) | {f"torchvision/{name}" for name in LIBRARIES["torchvision"].names()} <= set(
        architectures()
    )
    offered = {f"timm/{name}" for name in LIBRARIES["timm"].names()}
    missing = offered - set(architectures())
    computes_at_no_size = {"timm/csatv2", "timm/csatv2_21m"}
    no_classifier = {name for name in offered if name.endswith("_enc")}
    assert missing == computes_at_no_size | no_classifier, "run: make catalog"


@pytest.mark.slow
def test_every_figure_of_the_architectures_file_is_the_engines() -> None:
    names = list(architectures())
    bare = [name for name in names if not name.startswith("timm/")]
    for name in [*bare, *[name for name in names if name.startswith("timm/")][::10]]:
        holds(name)


def test_the_architectures_file_has_every_tag_of_timms_weights() -> None:
    for name, known in architectures().items():
        prefix, _, inner = name.partition("/")
        assert known.tags == (LIBRARIES[prefix].tags(inner) if prefix == "timm" else {}), f"{name}: run make catalog"
    assert list(architectures()["timm/resnet50"].tags.items())[:2] == [("a1_in1k", 224), ("a1h_in1k", 176)]
    for name in ("timm/resnet50", "timm/resnet50.a3_in1k"):
        found = published(name)
        assert found is not None
        assert found.shape[1] == architectures()["timm/resnet50"].tags[name.partition(".")[2] or "a1_in1k"]


def test_no_published_weights_tell_fewer_classes_apart_than_the_review_of_a_spec_takes_for_granted() -> None:
    names = [
        f"{name}.{tag}" if tag else name
        for name, known in architectures().items()
        if "/" in name
        for tag in known.tags or ("",)
    ]
    counts = {len(found.classes) for name in names if (found := published(name)) is not None}
    assert len(counts) > 1
    assert min(counts) == FEWEST_PUBLISHED


def test_figures_that_are_not_listed_are_null() -> None:
    known = architectures()["resnet20"].figures
    listed = known.at((3, 32, 32), 100)
    assert (listed.parameters, listed.flops) == (278_324, 81_637_888)
    assert listed.points["stages"]["layer3"] == [64, 8, 8]
    assert known.at((3, 30, 32), 100) == Footprint(parameters=278_324, flops=None)
    assert architectures()["lenet5"].figures.at((3, 47, 47), 100) == Footprint(parameters=None, flops=None)


def test_built_in_data_sets_are_as_described() -> None:
    assert set(DATASETS) == set(BUILTIN)
    for name, known in SETS.items():
        assert (known.mean, known.std) == (DATASETS[name].mean, DATASETS[name].std)
        assert not known.classes or known.classes == DATASETS[name].classes
        assert known.side is None or DATASETS[name].shape == (3, known.side, known.side)
        published = {split for split in ("train", "validation", "test") if getattr(DATASETS[name], split) is not None}
        assert set(known.splits) == published
    found = BUILTIN["digits"](None, FILE)
    promised = DATASETS["digits"]
    assert (found.classes, found.mean, found.std) == (promised.classes, promised.mean, promised.std)
    assert (len(found.train), tuple(found.train.images.shape[1:])) == (promised.train, promised.shape)
    pixels = found.train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(promised.mean[0], abs=1e-3)
    assert pixels.std().item() == pytest.approx(promised.std[0], abs=1e-3)


def test_augmentations_are_the_same() -> None:
    assert get_args(get_args(Augmentation)[0]) == AUGMENTATIONS


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


@settings(max_examples=100, deadline=None)
@given(flat_layers())
def test_the_feature_points_of_layers_are_those_the_engine_finds(listed: list[dict[str, Any]]) -> None:
    layers = LAYERS.validate_python(listed)
    try:
        trace(layers, input_shape=(2, 9, 9), classes=3)
    except LayerShapeError:
        return
    body = build_layers([layer.model_dump() for layer in layers], classes=3, channels=2, size=(9, 9))
    found = feature_points(layers, input_shape=(2, 9, 9), classes=3)
    every = found.pop("every")
    told = {kind: list(shapes.items()) for kind, shapes in found.items()}
    engines = described(body, (2, 9, 9), None)
    assert told == {kind: [(name, list(shape)) for name, shape in shapes.items()] for kind, shapes in engines.items()}
    names = {name for name, _ in body.named_modules() if name}
    assert {name.removesuffix(":input") for name in every} == names
    for name in sorted(every):
        if len(every[name]) in (1, 2, 3):
            assert list(shapes_of(body, [name], (2, 9, 9), whose="student")[name]) == every[name], name


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
