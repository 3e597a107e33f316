"""Weights from elsewhere, on their way to a training: published ones, another job's student."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from app.config import Settings
from app.storage import open_storage
from stillhouse.spec import JobSpec
from tests.engine.conftest import FP32, first
from tests.harness import Service, eventually, service
from tests.worker.fetching import fetched
from worker import assembly, pretrained, staging
from worker.assembly import build_run, ready_teachers
from worker.engine import weights
from worker.engine.architectures import find, published
from worker.engine.data import Dataset, RawDataset
from worker.engine.data.builtin import BUILTIN
from worker.engine.data.split import split_dataset
from worker.engine.errors import WeightsRefused
from worker.engine.network import Preprocessing, build_network
from worker.phases import phases
from worker.weights import Source, stage_weights
from worker.weights import published as published_files

TAGGED = "timm/mobilenetv4_conv_small.e3600_r256_in1k"
NAMES = ["torchvision/squeezenet1_1", "timm/test_resnet", TAGGED]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each name a file of random weights, as its library publishes them."""
    folder = tmp_path_factory.mktemp("published")
    made = {}
    for name in NAMES:
        found = published(name)
        assert found is not None
        known = find(found.architecture)
        assert known is not None
        body = known.build(len(found.classes), 3, found.shape[1:])
        made[name] = folder / found.files[0]
        if found.files[0].endswith(".safetensors"):
            weights.save(folder, found.files[0].removesuffix(".safetensors"), body.state_dict(), {})
        else:
            torch.save(body.state_dict(), made[name])
    return made


@pytest.fixture(scope="module")
def server(files: dict[str, Path]) -> Iterator[str]:
    folder = next(iter(files.values())).parent
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_are_downloaded_checked_and_staged(
    name: str, files: dict[str, Path], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = published(name)
    assert found is not None
    assert found.url.startswith("https://")
    digest = hashlib.sha256(files[name].read_bytes()).hexdigest()
    local = replace(found, url=f"{server}/{files[name].name}", sha256_prefix=digest[:8])
    pretrained.fetch(local, None, Path("made"))
    stored = weights.load(Path("made"), "weights")
    assert stored.architecture == found.architecture == name.partition(".")[0]
    assert (stored.preprocessing.shape, len(stored.classes)) == (found.shape, 1000)
    expected = weights.read(files[name]).tensors
    assert all(torch.equal(stored.tensors[each], expected[each]) for each in expected)


def test_a_tag_chooses_the_weights_and_their_preprocessing() -> None:
    plain, tagged = published(TAGGED.partition(".")[0]), published(TAGGED)
    assert plain is not None
    assert tagged is not None
    assert (plain.shape, tagged.shape) == ((3, 224, 224), (3, 256, 256))
    assert tagged.url.endswith("/timm/mobilenetv4_conv_small.e3600_r256_in1k/resolve/main/model.safetensors")
    assert plain.url.endswith("/timm/mobilenetv4_conv_small.e2400_r224_in1k/resolve/main/model.safetensors")
    inception, usual = published("timm/resnet50.gluon_in1k"), published("timm/vit_base_patch16_224.augreg_in1k")
    assert inception is not None
    assert usual is not None
    assert inception.mean != usual.mean
    for none in ("timm/resnet50.nothing", "timm/nothing.a1_in1k", "torchvision/resnet18.a1_in1k", "resnet20.x"):
        assert published(none) is None


def test_weights_in_the_folder_are_preferred_and_a_wrong_digest_is_refused(
    files: dict[str, Path], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES[0]
    found = published(name)
    assert found is not None
    assert len(found.sha256_prefix) == 8
    (tmp_path / "given" / "weights").mkdir(parents=True)
    (tmp_path / "given" / "weights" / found.files[0]).write_bytes(files[name].read_bytes())
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    pretrained.fetch(replace(found, sha256_prefix=""), tmp_path / "given", Path("made"))
    assert Path("made/weights.json").exists()
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(OSError, match=f"sha256 .*, not {found.sha256_prefix}"):
        pretrained.fetch(found, tmp_path / "given", Path("made"))
    monkeypatch.chdir(tmp_path / "three")
    missing = replace(found, url=f"{server}/nothing")
    with pytest.raises(OSError, match=r"STILLHOUSE_DATASETS_DIR is not set, and the download of .* failed"):
        pretrained.fetch(missing, None, Path("made"))
    assert not Path("made").exists()


@pytest.fixture
def given() -> Iterator[Path]:
    """A folder that a child may read whose user is another: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_the_fetching_child_stages_published_weights_once(files: dict[str, Path], given: Path, tmp_path: Path) -> None:
    """From a folder that holds them, in its own process; where the digest is another, it says so in one line."""
    (given / "weights").mkdir()
    for file in files.values():
        (given / "weights" / file.name).write_bytes(file.read_bytes())
    settings = Settings(data_dir=tmp_path / "data", datasets_dir=given)
    storage = open_storage((tmp_path / "files").as_uri())
    sound, other = (published_files(settings, name) for name in (NAMES[1], NAMES[0]))
    assert fetched(settings, sound, tmp_path / "first") == []
    staging.keep(sound, tmp_path / "first")
    assert sound.is_kept
    (tmp_path / "second").mkdir()
    stage_weights(settings, storage, {"teacher": Source(published=NAMES[1])}, tmp_path / "second")
    assert weights.load(tmp_path / "second" / "weights", "teacher").architecture == NAMES[1]
    (said,) = fetched(settings, other, tmp_path / "third")
    assert (said["event"], said["reason"]) == ("failed", "download_failed")
    assert re.search(f"the weights of {NAMES[0]}: .* has sha256 [0-9a-f]+, not", said["detail"])
    assert not other.is_kept


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = BUILTIN["digits"](None, Path())
    some = RawDataset(whole.name, whole.classes, whole.mean, whole.std, whole.train.take(torch.arange(300)), None)
    return split_dataset(some, validation=0.15, seed=3)


Stage = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Write a colour network of 16x16 into the place where a role's weights are staged."""
    monkeypatch.setattr(assembly, "WEIGHTS", tmp_path)

    def write(role: str, *, classes: tuple[str, ...] = tuple("0123456789")) -> dict[str, torch.Tensor]:
        shape = Preprocessing((3, 16, 16), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        built = build_network(architecture="resnet8", classes=len(classes), preprocessing=shape, seed=77)
        state = built.body.state_dict()
        weights.save(tmp_path, role, state, weights.describe("resnet8", "standard", shape, classes, 1))
        return state

    return write


def spec(**networks: Any) -> JobSpec:
    given = {"dataset": {"id": "digits"}, "student": {"architecture": "resnet8"}, "training": {"epochs": 1}, **networks}
    return JobSpec.model_validate(given).complete()


TEACHER = {"architecture": "resnet8", "weights": "job_1"}


def test_a_teacher_with_weights_is_used_as_it_is(stage: Stage, digits: Dataset) -> None:
    state = stage("teacher")
    wanted = spec(teacher=TEACHER)
    assert [phase.name for phase in phases(wanted)] == ["student-0", "control-0"]
    teacher = ready_teachers(wanted, digits)["teacher"]
    assert teacher is not None
    assert teacher.preprocessing.shape == (3, 16, 16)
    assert all(torch.equal(value, state[name]) for name, value in teacher.body.state_dict().items())
    run = build_run(wanted, phases(wanted)[0], digits, teacher=teacher, device=torch.device("cpu"), precision=FP32)
    assert run.student.preprocessing.shape == (1, 8, 8)
    assert run.teacher is not None
    images = digits.train.images[:4].float() / 255
    assert run.teacher.outputs(images, first(4)).logits.shape == run.student(images).logits.shape


def test_a_teacher_of_other_classes_must_be_fine_tuned(stage: Stage, digits: Dataset) -> None:
    state = stage("teacher", classes=("ant", "bee"))
    with pytest.raises(WeightsRefused, match="tell 2 classes apart, where 10 are wanted") as caught:
        ready_teachers(spec(teacher=TEACHER), digits)
    assert "train" in caught.value.remedy
    tuned = spec(teacher={**TEACHER, "train": {"epochs": 1}})
    assert [phase.name for phase in phases(tuned)] == ["teacher", "student-0", "control-0"]
    assert ready_teachers(tuned, digits) == {}
    run = build_run(tuned, phases(tuned)[0], digits, teacher=None, device=torch.device("cpu"), precision=FP32)
    found = run.student.body.state_dict()
    assert torch.equal(found["conv1.weight"], state["conv1.weight"])
    assert found["fc.weight"].shape == (10, 64)


def test_student_and_control_start_from_the_same_given_weights(stage: Stage, digits: Dataset) -> None:
    state = stage("student")
    stage("teacher")
    wanted = spec(teacher=TEACHER, student={**TEACHER, "input_size": 8})
    teacher = ready_teachers(wanted, digits)["teacher"]
    runs = [
        build_run(wanted, phase, digits, teacher=teacher, device=torch.device("cpu"), precision=FP32)
        for phase in phases(wanted)
    ]
    assert [run.student.preprocessing.shape for run in runs] == [(3, 8, 8), (3, 8, 8)]
    for run in runs:
        assert all(torch.equal(value, state[name]) for name, value in run.student.body.state_dict().items())


def test_weights_of_another_architecture_are_refused(stage: Stage, digits: Dataset) -> None:
    stage("teacher")
    with pytest.raises(WeightsRefused, match=r"job_1 is resnet8 .* but the teacher is resnet14"):
        ready_teachers(spec(teacher={**TEACHER, "architecture": "resnet14"}), digits)


def test_an_onnx_teacher_is_asked_and_never_trained(digits: Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(assembly, "WEIGHTS", tmp_path)
    shape = Preprocessing((1, 8, 8), (0.3,), (0.4,))
    described = weights.describe(weights.ONNX, "standard", shape, digits.classes, 0)
    (tmp_path / "teacher.json").write_text(json.dumps(described))
    values = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    (tmp_path / "teacher.onnx").write_bytes(linear_model(values))
    wanted = spec(teacher={"architecture": "onnx", "weights": "mdl_1"})
    assert [phase.name for phase in phases(wanted)] == ["student-0", "control-0"]
    teacher = ready_teachers(wanted, digits)["teacher"]
    run = build_run(wanted, phases(wanted)[0], digits, teacher=teacher, device=torch.device("cpu"), precision=FP32)
    assert run.teacher is not None
    images = digits.train.images[:4].float() / 255
    told = run.teacher.outputs(images, first(4)).logits
    assert torch.allclose(told.exp().sum(dim=1), torch.ones(4), atol=1e-5)


def linear_model(values: torch.Tensor) -> bytes:
    """One linear layer [features, classes], without a bias, that answers with probabilities."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["images"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
            onnx.helper.make_node("Softmax", ["scores"], ["out"], axis=1),
        ],
        "teacher",
        [onnx.helper.make_tensor_value_info("images", 1, ["N", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info("out", 1, ["N", values.shape[1]])],
        [onnx.numpy_helper.from_array(values.numpy(), "weight")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    written: bytes = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return written


def finished(running: Service, job: dict[str, Any]) -> dict[str, Any]:
    response = running.http.post("/v1/jobs", json=job)
    assert response.status_code == 201, response.text
    path = f"/v1/jobs/{response.json()['id']}"
    found: dict[str, Any] = eventually(
        lambda: (shown := running.get(path))["terminal"] and shown, what="the job", seconds=120
    )
    return found


def test_a_jobs_student_teaches_the_next_job(tmp_path: Path) -> None:
    layers = [{"name": "flatten"}, {"name": "linear", "features": 32}, {"name": "relu"}, {"name": "linear"}]
    first = {
        "dataset": {"id": "digits"},
        "student": {"layers": layers},
        "method": {"name": "none"},
        "training": {"epochs": 4, "optimizer": {"name": "adam"}},
    }
    with service(tmp_path / "data") as running:
        taught = finished(running, first)
        assert taught["status"] == "succeeded", taught["status_detail"]
        second = {
            **first,
            "teacher": {"layers": layers, "weights": taught["id"]},
            "student": {"layers": [{"name": "flatten"}, {"name": "linear"}]},
            "method": {"name": "kd"},
            "control": False,
        }
        found = finished(running, second)
        assert found["status"] == "succeeded", found["status_detail"]
        assert found["result"]["teacher"]["top1"] == taught["result"]["student"]["top1"]
        stages = [event["data"].get("stage") for event in running.get(f"/v1/jobs/{found['id']}/events")["data"]]
        assert "teacher" not in stages
