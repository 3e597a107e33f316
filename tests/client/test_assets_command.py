"""Data sets and models from the shell: sent, validated, used by a job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save
from sklearn.datasets import load_digits

from tests.client.test_command import command
from tests.engine.archives import folder, picture, zipped
from tests.harness import Service, service
from worker.engine.network import build_body

SPEC = """\
name: mine
dataset: {id: %s, input_size: 8}
student: {architecture: resnet8}
method: {name: none}
training: {epochs: 1, batch_size: 16}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("assets") / "data") as started:
        yield started


def test_a_folder_becomes_a_data_set_that_a_job_trains_on_and_its_student_a_model(
    running: Service, tmp_path: Path
) -> None:
    for name, data in folder(train=30, test=10).items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(data)
    at = {"data_dir": running.data_dir}
    sent = command("datasets", "upload", str(tmp_path / "pets"), "--json", **at)
    assert sent.returncode == 0, sent.stderr
    assert "temporary tar" in sent.stderr
    dataset = json.loads(sent.stdout)
    assert (dataset["state"], dataset["name"], dataset["splits"]) == ("ready", "pets", {"train": 60, "test": 20})
    shown = command("datasets", "show", dataset["id"], **at)
    assert "3x12x12" in shown.stdout
    assert dataset["id"] in command("datasets", "list", **at).stdout
    (tmp_path / "spec.yaml").write_text(SPEC % dataset["id"])
    watched = command("submit", str(tmp_path / "spec.yaml"), "--watch", "--json", **at)
    assert watched.returncode == 0, watched.stderr
    job = json.loads(watched.stdout)
    bundle = tmp_path / "bundle"
    assert command("download", job["id"], "-o", str(bundle), **at).returncode == 0
    student = json.loads((bundle / "student.json").read_text())
    assert (student["input"]["shape"], student["classes"]) == ([3, 8, 8], ["ants", "bees"])
    assert student["input"]["mean"] == dataset["mean"]
    assert json.loads((bundle / "environment.json").read_text())["stored_dataset_sha256"] == dataset["sha256"]
    arguments = ["--architecture", "resnet8", "--classes", "ants,bees", "--input-size", "8", "--dataset", dataset["id"]]
    arguments += [f"--{name}={','.join(map(str, student['input'][name]))}" for name in ("mean", "std")]
    model = command("models", "upload", str(bundle / "student.safetensors"), *arguments, "--json", **at)
    assert model.returncode == 0, model.stderr + model.stdout
    found = json.loads(model.stdout)
    assert (found["state"], found["input"], found["parameters"]) == ("ready", student["input"], student["parameters"])
    measured, told = found["report"]["accuracy"], json.loads((bundle / "report.json").read_text())["result"]["student"]
    assert (measured["dataset"], measured["split"], measured["images"]) == (dataset["id"], "test", 20)
    assert {name: measured[name] for name in ("top1", "top5")} == {name: told[name] for name in ("top1", "top5")}
    assert f"of 20 test images of {dataset['id']}" in " ".join(
        command("models", "show", found["id"], **at).stdout.split()
    )
    assert found["sha256"] == next(
        row["sha256"]
        for row in running.get(f"/v1/jobs/{job['id']}/artifacts")["data"]
        if row["name"] == "student.safetensors"
    )
    assert found["id"] in command("models", "list", **at).stdout


def test_a_rejected_set_is_exit_status_1_and_one_document(running: Service, tmp_path: Path) -> None:
    upload = zipped(tmp_path / "x.zip", {"a/[bold]0.png": picture(), "b/1.png": b"no image"})
    sent = command("datasets", "upload", str(upload), "--json", data_dir=running.data_dir)
    assert sent.returncode == 1, sent.stderr
    document = json.loads(sent.stdout)
    assert document["report"]["corrupt"]["files"] == [
        {"file": "b/1.png", "problem": "it is no image of a known format"}
    ]
    shown = command("datasets", "show", document["id"], data_dir=running.data_dir)
    assert "1 of 2 images cannot be read" in shown.stdout
    waiting = command("datasets", "upload", str(upload), "--no-wait", "--json", data_dir=running.data_dir)
    assert (waiting.returncode, json.loads(waiting.stdout)["state"]) in ((0, "pending"), (0, "validating"))


def test_a_built_in_set_to_be_measured_on_is_fetched_first(running: Service, tmp_path: Path) -> None:
    digits = ",".join("0123456789")
    (tmp_path / "x").write_bytes(save(build_body("lenet5", classes=10, shape=(1, 8, 8)).state_dict()))
    options = ["--architecture", "lenet5", "--classes", digits, "--mean", "0.3", "--std", "0.4", "--input-size", "8"]
    model = command(
        "models", "upload", str(tmp_path / "x"), *options, "--dataset", "digits", "--json", data_dir=running.data_dir
    )
    assert model.returncode == 0, model.stderr + model.stdout
    report = json.loads(model.stdout)["report"]
    assert (report["accuracy"]["dataset"], report["accuracy"]["images"]) == ("digits", 179)
    assert any("where guessing gives 1" in warning for warning in report["warnings"])


TAUGHT = """\
dataset: {id: digits}
teacher: {architecture: logits, weights: %s}
student: {layers: [{name: flatten}, {name: linear}]}
training: {epochs: 3, optimizer: {name: adam}}
"""


def test_a_file_of_probabilities_teaches(running: Service, tmp_path: Path) -> None:
    """Those of a linear fit to scikit-learn's digits; their test split is drawn from train, so its rows are known."""
    images, labels = load_digits(return_X_y=True)
    inputs = np.column_stack([images / 16, np.ones(len(images))])
    scores = 8 * inputs @ np.linalg.lstsq(inputs, np.eye(10)[labels], rcond=None)[0]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.save(tmp_path / "rows.npy", powers / powers.sum(axis=1, keepdims=True))
    at = {"data_dir": running.data_dir}
    arguments = ["--architecture", "logits", "--classes", "10"]
    sent = command("models", "upload", str(tmp_path / "rows.npy"), *arguments, "--json", **at)
    assert sent.returncode == 0, sent.stderr + sent.stdout
    model = json.loads(sent.stdout)
    assert (model["state"], model["rows"], model["parameters"]) == ("ready", {"train": 1797}, None)
    assert model["report"]["kind"] == "probabilities"
    assert "1,797" in command("models", "show", model["id"], **at).stdout
    (tmp_path / "spec.yaml").write_text(TAUGHT % model["id"])
    watched = command("submit", str(tmp_path / "spec.yaml"), "--watch", **at)
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout.count("unknown") == 3  # the file's parameters, FLOPs and milliseconds
    job = running.get("/v1/jobs")["data"][0]
    teacher = job["result"]["teacher"]
    assert 0.9 < teacher["top1"] < 1
    assert (teacher["parameters"], teacher["latency_ms"], teacher["bytes"]) == (None, None, 1797 * 10 * 4)
    assert job["result"]["agreement"] > 0.5
    missing = command(
        "models", "upload", str(tmp_path / "rows.npy"), "--architecture", "resnet8", "--classes", "10", **at
    )
    assert missing.returncode == 2
    assert "--mean" in missing.stderr


def test_numbers_that_are_none_are_said_before_anything_is_sent(running: Service, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"weights")
    options = ["--architecture", "resnet8", "--classes", "10", "--mean", "0.5", "--std", "a", "--input-size", "8"]
    wrong = command("models", "upload", str(tmp_path / "x.pth"), *options, data_dir=running.data_dir)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Invalid value for --std: numbers separated by commas are needed, not 'a'" in wrong.stderr
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    for path, options, status, why in (
        ("empty", [], 2, "holds no file"),
        ("x.pth", ["--upload", "upl_nope"], 4, "stillhouse: no upload upl_nope"),
    ):
        found = command("datasets", "upload", str(tmp_path / path), *options, data_dir=running.data_dir)
        assert (found.returncode, why in found.stderr) == (status, True), found.stderr
        assert "go on with" not in found.stderr
