"""The accuracy of an uploaded model on a data set, and what is said of a preprocessing that is not its own."""

from __future__ import annotations

import io
import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

from app.config import Settings
from app.storage import open_storage
from app.tables import UploadPart
from worker import appraise as appraising
from worker import validation as validating
from worker.appraise import appraise
from worker.engine import weights
from worker.engine.data import RawDataset, store
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.split import split_dataset
from worker.engine.evaluate import evaluate
from worker.engine.network import Network, Preprocessing, build_network
from worker.staging import Fetched
from worker.validation import MeasuredOn, Subject, Validation
from worker.watch import Ending, Watch

OWN = Preprocessing((1, 8, 8), (0.3053,), (0.3761,))
OTHER = Preprocessing((1, 8, 8), (0.9,), (0.05,))
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def digits() -> RawDataset:
    return BUILTIN["digits"](None, Path())


@pytest.fixture(scope="module")
def stored(digits: RawDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "dataset"
    store.save(folder, digits)
    return folder


@pytest.fixture(scope="module")
def knowing(digits: RawDataset) -> Network:
    """A network of random features and a last layer that fits the training images."""
    network = build_network(architecture="resnet8", classes=10, preprocessing=OWN, seed=1).eval()
    train = split_dataset(digits, validation=0, seed=0).train
    seen: list[Tensor] = []
    body: Any = network.body
    watching = body.fc.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(train.images.float() / 255)
        watching.remove()
        inputs = torch.cat([seen[0], torch.ones(len(train), 1)], dim=1)
        wanted = torch.nn.functional.one_hot(train.labels, 10).float() * 8
        solution = torch.linalg.lstsq(inputs, wanted, driver="gelsd").solution
        body.fc.weight.copy_(solution[:-1].T)
        body.fc.bias.copy_(solution[-1])
    return network


def write(folder: Path, network: Network, *, shape: Preprocessing = OWN, classes: tuple[str, ...] = DIGITS) -> Path:
    described = weights.describe("resnet8", "standard", shape, classes, 1)
    weights.save(folder, "model", network.body.state_dict(), described)
    return folder


def appraised(bundle: Path, stored: Path, *, seconds: float = 600, problem: str | None = None) -> dict[str, Any]:
    report: dict[str, Any] = {}
    signs: list[int] = []
    asked = {"dataset": "digits", "seconds": seconds, "problem": problem}
    appraise(bundle, stored, asked=asked, report=report, alive=lambda: signs.append(1))
    assert signs or "accuracy" not in report
    return report


def test_the_accuracy_is_that_of_an_evaluation_on_the_test_split(
    knowing: Network, digits: RawDataset, stored: Path, tmp_path: Path
) -> None:
    test = split_dataset(digits, validation=0, seed=0).test
    expected = evaluate(knowing, test)
    report = appraised(write(tmp_path, knowing), stored)
    found = report["accuracy"]
    assert (found["dataset"], found["split"], found["images"]) == ("digits", "test", len(test))
    for name in ("top1", "top5", "loss"):
        assert found[name] == pytest.approx(getattr(expected, name), abs=1e-6), name
    assert found["top1"] > 0.8
    assert report["notes"] == ["digits has no test split: jobs are tested on a tenth of train, and so was this"]
    assert report["warnings"] == []


def test_a_preprocessing_that_is_not_its_own_is_noticed(knowing: Network, stored: Path, tmp_path: Path) -> None:
    report = appraised(write(tmp_path, knowing, shape=OTHER), stored)
    assert report["accuracy"]["top1"] < 0.6
    warning = report["warnings"][-1]
    assert "training images, but on" in warning
    assert re.search(r"with the training images' own mean \(0\.30\d+\) and deviation \(0\.37", warning)
    assert "give the model the right ones" in warning


def test_a_network_that_knows_nothing_is_said_to_guess(stored: Path, tmp_path: Path) -> None:
    network = build_network(architecture="resnet8", classes=10, preprocessing=OWN, seed=2)
    warnings = appraised(write(tmp_path, network), stored)["warnings"]
    assert "where guessing gives 1" in warnings[-1]


def test_classes_in_another_order_are_put_into_the_sets(knowing: Network, stored: Path, tmp_path: Path) -> None:
    state = dict(knowing.body.state_dict())
    state |= {name: state[name].flip(0) for name in ("fc.weight", "fc.bias")}
    described = weights.describe("resnet8", "standard", OWN, DIGITS[::-1], 1)
    weights.save(tmp_path / "flipped", "model", state, described)
    same = appraised(write(tmp_path / "same", knowing), stored)
    assert appraised(tmp_path / "flipped", stored) == same
    named = appraised(write(tmp_path / "named", knowing, classes=tuple("abcdefghij")), stored)
    assert named["accuracy"] == same["accuracy"]
    assert "the model's classes (a, b, c, …) are called otherwise than the set's (0, 1, 2, …)" in named["warnings"][0]


def test_what_cannot_be_measured_is_a_warning_and_no_refusal(
    knowing: Network, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = build_network(architecture="resnet8", classes=3, preprocessing=OWN, seed=1)
    report = appraised(write(tmp_path / "few", few, classes=("a", "b", "c")), stored)
    assert "accuracy" not in report
    assert "could not be measured: the weights tell 3 classes apart, where 10 are wanted" in report["warnings"][-1]
    gone = appraised(tmp_path, stored, problem="it is not in this project any more")
    assert gone == {
        "notes": [],
        "warnings": ["the accuracy on digits could not be measured: it is not in this project any more"],
    }

    def greedy(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate it.\nmore")

    monkeypatch.setattr(appraising, "evaluate", greedy)
    short = appraised(write(tmp_path / "whole", knowing), stored)
    assert short["warnings"][-1].endswith(
        "measured: DefaultCPUAllocator: can't allocate memory: you tried to allocate it."
    )

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(appraising, "evaluate", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        appraised(tmp_path / "whole", stored)


def test_a_measurement_ends_in_time_and_says_of_how_many_images(knowing: Network, stored: Path, tmp_path: Path) -> None:
    report = appraised(write(tmp_path, knowing), stored, seconds=0)
    assert report["accuracy"]["images"] == 64
    assert "on 64 of 179 test images, drawn at random: more of them would have taken longer" in report["notes"][-1]


def test_an_onnx_file_is_asked(digits: RawDataset, stored: Path, tmp_path: Path) -> None:
    train = split_dataset(digits, validation=0, seed=0).train
    pixels = (train.images.float() / 255 - 0.3053) / 0.3761
    wanted = torch.nn.functional.one_hot(train.labels, 10).float() * 8
    matrix = torch.linalg.lstsq(pixels.flatten(1), wanted, driver="gelsd").solution
    (tmp_path / "model.onnx").write_bytes(linear(matrix))
    for shape, knows in ((OWN, True), (Preprocessing((1, 8, 8), (-2.0,), (2.0,)), False)):
        described = weights.describe(weights.ONNX, "standard", shape, DIGITS, 0)
        (tmp_path / "model.json").write_text(json.dumps(described))
        report = appraised(tmp_path, stored)
        assert (report["accuracy"]["top1"] > 0.85) is knows
        assert any("was taken for probabilities" in note for note in report["notes"])
        assert any("training images, but on" in warning for warning in report["warnings"]) is not knows


def linear(matrix: Tensor) -> bytes:
    """One linear layer that answers with probabilities."""
    nodes = [
        onnx.helper.make_node("Flatten", ["images"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
        onnx.helper.make_node("Softmax", ["scores"], ["out"], axis=1),
    ]
    images = onnx.helper.make_tensor_value_info("images", 1, ["N", 1, 8, 8])
    out = onnx.helper.make_tensor_value_info("out", 1, ["N", 10])
    graph = onnx.helper.make_graph(
        nodes, "linear", [images], [out], [onnx.numpy_helper.from_array(matrix.numpy(), "weight")]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


PART = UploadPart(upload_id="upl_1", offset=0, key="uploads/upl_1/0", bytes=7, sha256=None)


class Offline(Validation):
    """Whose fetching child comes to a fixed end."""

    ending = Ending("download_failed", "the download failed")

    def _look(self) -> Subject:
        return Subject("models", "models/mdl_1", "uploads/upl_1", [PART], {}, MeasuredOn("mnist", None))

    def _fetch(self, watch: Watch, wanted: Fetched) -> Ending:
        assert list(self.scratch.iterdir()) == []
        self.failed = self.ending
        return self.ending


def test_a_set_that_cannot_be_had_is_a_reason_in_the_report(tmp_path: Path) -> None:
    validation = Offline.__new__(Offline)
    validation.settings, validation.scratch = Settings(data_dir=tmp_path), tmp_path
    watch = Watch.__new__(Watch)
    asked = {"dataset": "mnist", "seconds": 900.0, "problem": "the download failed"}
    assert validation._stage_appraisal(watch, MeasuredOn("mnist", None)) == asked
    assert validation.failed is None
    gone = validation._stage_appraisal(watch, MeasuredOn("ds_1", None))
    assert gone == {**asked, "dataset": "ds_1", "problem": "it is not in this project any more"}
    assert validation._stage_appraisal(watch, None) is None
    validation.ending = Ending("drained")
    assert validation._stage_appraisal(watch, MeasuredOn("mnist", None)) is validation.ending


def test_the_child_that_fetches_sees_no_file_of_a_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload is brought after it has ended, and then the validation goes on."""
    (tmp_path / "scratch").mkdir()
    validation = Offline.__new__(Offline)
    validation.settings, validation.scratch = Settings(data_dir=tmp_path), tmp_path / "scratch"
    validation.reporter = SimpleNamespace(stage=lambda _stage: None)  # type: ignore[assignment]
    validation.beat = SimpleNamespace(lost=False)  # type: ignore[assignment]
    validation.draining = threading.Event()
    validation.storage = open_storage((tmp_path / "files").as_uri())
    validation.storage.put(PART.key, io.BytesIO(b"weights"))
    validation.result = {}
    monkeypatch.setattr(validating, "spawn", lambda *_, **__: None)
    monkeypatch.setattr(Offline, "_run_child", lambda *_: Ending(None))
    assert validation._work() == Ending(None)
    assert (tmp_path / "scratch" / "upload").read_bytes() == b"weights"
    asked = json.loads((tmp_path / "scratch" / "plan.json").read_text())["appraisal"]
    assert asked == {"dataset": "mnist", "seconds": 900.0, "problem": "the download failed"}
