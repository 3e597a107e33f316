"""ONNX teachers: what they answer, and files that are not opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from tests.engine.conftest import FP32, first
from worker.engine import weights
from worker.engine.blackbox import BlackBox, kind_of, to_logits
from worker.engine.errors import WeightsRefused
from worker.engine.evaluate import measure
from worker.engine.network import Network, Preprocessing
from worker.engine.teacher import LiveTeacher

CLASSES = 5
WEIGHT = np.random.default_rng(1).normal(size=(3 * 4 * 4, CLASSES)).astype(np.float32)
SHAPE = Preprocessing((3, 4, 4), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def model(
    ending: str | None = None,
    *,
    batch: int | str = "N",
    nodes: list[Any] | None = None,
    weight: TensorProto | None = None,
    image: tuple[int, ...] = (3, 4, 4),
    domain: str = "",
) -> onnx.ModelProto:
    """One linear layer, then ``ending``."""
    last = "scores" if ending is None else "out"
    made = nodes or [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
    ]
    if ending is not None:
        made.append(helper.make_node(ending, ["scores"], ["out"], axis=1))
    graph = helper.make_graph(
        made,
        "teacher",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *image])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, CLASSES])],
        [weight or numpy_helper.from_array(WEIGHT, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 17)], ir_version=9)


def opened(tmp_path: Path, given: onnx.ModelProto) -> BlackBox:
    (tmp_path / "teacher.onnx").write_bytes(given.SerializeToString())
    return BlackBox(tmp_path / "teacher.onnx", classes=CLASSES)


def reference(maps: Tensor) -> Tensor:
    return maps.flatten(1) @ torch.from_numpy(WEIGHT)


@pytest.mark.parametrize(
    ("ending", "kind"), [(None, "logits"), ("Softmax", "probabilities"), ("LogSoftmax", "log-probabilities")]
)
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_whatever_it_answers_it_teaches_the_same(
    tmp_path: Path, ending: str | None, kind: str, batch: int | str
) -> None:
    box = opened(tmp_path, model(ending, batch=batch))
    images = torch.rand(7, 3, 4, 4)
    network = Network(box, SHAPE)
    assert box.recognise(network.prepare(images)) == kind
    teacher = LiveTeacher(network, precision=FP32)
    found = teacher.outputs(images, first(7)).logits
    assert torch.allclose(found.softmax(1), reference((images - 0.5) / 0.25).softmax(1), atol=1e-5)
    assert not found.requires_grad
    footprint = measure(network)
    assert (footprint.parameters, footprint.flops, box.bytes > 900) == (WEIGHT.size, None, True)


def test_answers_are_recognised_only_when_every_row_agrees() -> None:
    logits = torch.randn(64, 10)
    assert kind_of(logits) == "logits"
    assert kind_of(logits.softmax(1).half()) == "probabilities"
    assert kind_of(logits.log_softmax(1)) == "log-probabilities"
    mixed = logits.softmax(1)
    mixed[3] *= 2
    assert kind_of(mixed) == "logits"
    certain = torch.eye(10)
    assert kind_of(certain) == "probabilities"
    assert bool(to_logits(certain, "probabilities").isfinite().all())


def test_images_with_channels_last_are_given_as_the_file_wants_them(tmp_path: Path) -> None:
    box = opened(tmp_path, model(image=(4, 4, 3)))
    maps = torch.rand(2, 3, 4, 4)
    assert torch.allclose(box(maps), reference(maps.permute(0, 2, 3, 1)), atol=1e-5)


def test_two_files_have_two_fingerprints(tmp_path: Path) -> None:
    one, other = (Network(opened(tmp_path, model(ending)), SHAPE).fingerprint() for ending in (None, "Softmax"))
    assert one != other


def external(inside: str) -> onnx.ModelProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=WEIGHT.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    if inside == "initializer":
        return model(weight=tensor)
    constant = helper.make_node("Constant", [], ["hidden"], value=tensor)
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("hidden", 1, WEIGHT.shape)])
    nodes = [helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)]
    return model(nodes=nodes if inside == "subgraph" else [constant])


@pytest.mark.parametrize("inside", ["initializer", "constant", "subgraph"])
def test_data_outside_the_file_is_never_read(tmp_path: Path, inside: str) -> None:
    with pytest.raises(WeightsRefused, match="in another file, and only it itself is read"):
        opened(tmp_path, external(inside))


def test_files_that_cannot_teach_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match=r"operators of com\.evil"):
        opened(tmp_path, model(domain="com.evil"))
    with pytest.raises(WeightsRefused, match="does not take one batch of images"):
        opened(tmp_path, model(image=(48,)))
    for content in (b"", b"no model", (tmp_path / "teacher.onnx").read_bytes()[:200]):
        (tmp_path / "broken.onnx").write_bytes(content)
        with pytest.raises(WeightsRefused):
            BlackBox(tmp_path / "broken.onnx", classes=CLASSES)
    (tmp_path / "teacher.onnx").write_bytes(model().SerializeToString())
    box = BlackBox(tmp_path / "teacher.onnx", classes=7)
    with pytest.raises(WeightsRefused, match="tells 5 classes apart, where 7 are wanted"):
        box(torch.rand(1, 3, 4, 4))
    with pytest.raises(WeightsRefused, match="cannot take images of 1x3x8x8"):
        box(torch.rand(1, 3, 8, 8))


def test_it_is_opened_from_its_staged_form(tmp_path: Path) -> None:
    names = list("abcde")
    (tmp_path / "teacher.onnx").write_bytes(model("Softmax").SerializeToString())
    (tmp_path / "teacher.json").write_text(json.dumps(weights.describe(weights.ONNX, "standard", SHAPE, names, 0)))
    samples = torch.rand(8, 1, 9, 9)
    network, kind = weights.open_black_box(tmp_path, "teacher", classes=names, samples=samples)
    assert (kind, network(samples).logits.shape) == ("probabilities", (8, CLASSES))
    with pytest.raises(WeightsRefused, match="in another order"):
        weights.open_black_box(tmp_path, "teacher", classes=names[::-1], samples=samples)
