"""Feature points: named by path, found by default, captured exactly, and never left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.engine.conftest import FP32, LAYERS, first, network, run, teacher
from worker.engine.architectures import ARCHITECTURES
from worker.engine.data import Dataset
from worker.engine.errors import MethodRefused
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing
from worker.engine.points import FeaturePoints, derive, shapes_of
from worker.engine.teacher import LiveTeacher

SHAPE = (1, 8, 8)


def resnet() -> Network:
    return network(layers="resnet8")


def test_a_resnets_points_are_its_stages_after_the_addition() -> None:
    points = resnet().points
    assert points.stages == ("layer1", "layer2", "layer3")
    assert points.preactivations == ("layer1.0.relu:input", "layer2.0.relu:input", "layer3.0.relu:input")
    assert points.embedding == "fc:input"
    assert (points.of("middle"), points.of("last"), points.of("embedding")) == (("layer2",), ("layer3",), ("fc:input",))


def test_layers_points_skip_dropout_and_take_the_classifiers_input() -> None:
    assert network().points == FeaturePoints(("2",), ("2:input",), "5:input")
    assert network(layers=LAYERS[-2:]).points.stages == ()


def test_stems_and_pooled_maps_are_no_stages() -> None:
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    assert derive(body, (1, 16, 16)) == FeaturePoints(("1",), ("1.1:input",), "4:input")


def test_captured_values_are_the_networks_own() -> None:
    net = resnet().eval()
    images = torch.rand(3, *SHAPE)
    plain = net(images)
    assert not plain.features
    shapes = net.capture_points(("layer2", "layer3.0.relu:input", "fc:input"), whose="student")
    assert shapes == {"layer2": (32, 4, 4), "layer3.0.relu:input": (64, 2, 2), "fc:input": (64,)}
    given = net(images)
    assert torch.equal(given.logits, plain.logits)
    assert {name: tuple(value.shape[1:]) for name, value in given.features.items()} == shapes
    rectified = given.features["layer3.0.relu:input"].relu()
    torch.testing.assert_close(rectified.mean(dim=(2, 3)), given.features["fc:input"])
    assert given.features["layer3.0.relu:input"].min() < 0
    net.capture_points((), whose="student")
    assert not net(images).features
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_copy_captures_for_itself_and_keeps_nothing() -> None:
    net = resnet().eval()
    net.capture_points(("layer1",), whose="student")
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    images = torch.rand(2, *SHAPE)
    ours, theirs = net(images).features["layer1"], twin(images).features["layer1"]
    assert not torch.equal(ours, theirs)
    net.body(images)  # past the wrapper: not recorded, so the network can still be copied
    copy.deepcopy(net)
    assert torch.equal(net(images).features["layer1"], ours)


def test_two_runs_on_one_teacher_capture_what_each_needs(digits: Dataset) -> None:
    source = teacher(digits, hidden=LAYERS[:3])
    run(digits, method=METHODS["at"](), taught_by=source)
    run(digits, method=METHODS["rkd"](), taught_by=source)
    assert list(source.outputs(torch.rand(2, *SHAPE), first(2)).features) == ["4:input"]
    run(digits, method=METHODS["kd"](), taught_by=source)
    assert not source.outputs(torch.rand(2, *SHAPE), first(2)).features


def test_capture_works_when_compiled() -> None:
    net = resnet().eval()
    net.capture_points(("layer1", "fc:input"), whose="student")
    images = torch.rand(2, *SHAPE)
    expected = net(images).features
    compiled = torch.compile(net, backend="eager")
    given = compiled(images).features
    assert list(given) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in given.items())


def test_a_point_that_does_not_exist_is_refused_with_those_that_do(digits: Dataset) -> None:
    with pytest.raises(MethodRefused, match=r"student has no feature point 'layer9'; did you mean layer.*it has .*fc"):
        run(
            digits,
            method=METHODS["sp"](student_points=["layer9"]),
            taught_by=LiveTeacher(resnet(), precision=FP32),
            student=resnet(),
        )


class Odd(nn.Module):
    """A module never run, one that gives two tensors, and one whose output is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.ReLU()
        self.conv = nn.Conv2d(1, 2, 3)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(2 * 36, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.act(self.conv(images)).flatten(1))
        return logits


def test_a_point_never_reached_or_overwritten_is_refused() -> None:
    with pytest.raises(MethodRefused, match="never reached"):
        shapes_of(Odd(), ("idle",), SHAPE, whose="teacher")
    with pytest.raises(MethodRefused, match="overwritten in place"):
        shapes_of(Odd(), ("conv",), SHAPE, whose="teacher")


def test_the_input_of_an_activation_in_place_is_kept() -> None:
    net = Network(Odd(), Preprocessing(SHAPE, (0.3,), (0.4,)))
    assert net.points == FeaturePoints(("act",), ("act:input",), "fc:input")
    net.capture_points(("act", "act:input"), whose="student")
    features = net(torch.rand(2, *SHAPE)).features
    assert features["act:input"].min() < 0
    assert torch.equal(features["act"], features["act:input"].relu())


def test_points_that_do_not_pair_are_refused(digits: Dataset) -> None:
    source = LiveTeacher(resnet(), precision=FP32)
    for name, fields, message in (
        ("at", {"student_points": ["layer1", "layer2"], "teacher_points": ["layer1"]}, "cannot be paired"),
        ("at", {"student_points": ["fc:input"]}, "compares maps"),
        ("fitnet", {"student_points": ["fc:input"]}, "no pair"),
        ("crd", {"student_points": ["layer1", "layer2"], "teacher_points": ["layer1", "layer2"]}, "one pair"),
    ):
        with pytest.raises(MethodRefused, match=message):
            run(digits, method=METHODS[name](**fields), taught_by=source, student=resnet())
    with pytest.raises(MethodRefused, match="no stages"):
        run(digits, method=METHODS["at"](), taught_by=source, student=network(layers=LAYERS[-2:]))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_points_for_every_kind(name: str) -> None:
    entry = ARCHITECTURES[name]
    side = max(entry.minimum_size, 32)
    with torch.device("meta"):
        body = entry.build(10, 3, (side, side))
    points = entry.points or derive(body, (3, side, side))
    assert points.stages
    assert points.embedding
    every = (*points.stages, *points.preactivations, points.embedding)
    shapes = shapes_of(body, every, (3, side, side), whose="student")
    assert all(len(shapes[name]) == 3 for name in points.stages)
    assert len(shapes[points.embedding]) == 1
