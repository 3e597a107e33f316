"""The commonest wish: an ImageNet teacher and an ImageNet student on one's own ten classes, through a service."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stillhouse import Client
from tests.engine.archives import zipped
from tests.harness import service
from worker import pretrained
from worker.engine import weights
from worker.engine.architectures import find, published

TEACHER, STUDENT = "torchvision/resnet18", "torchvision/mobilenet_v3_small"
CLASSES = [f"class-{number}" for number in range(10)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and where it is served."""
    folder = tmp_path_factory.mktemp("published")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def fetched(name: str, server: tuple[Path, str], kept: Path) -> dict[str, torch.Tensor]:
    """Random weights, published on the local server, fetched as a worker's child does and kept where it keeps them."""
    found, known = published(name), find(name)
    assert found is not None
    assert known is not None
    folder, url = server
    file = folder / found.files[0]
    torch.manual_seed(3)
    torch.save(known.build(len(found.classes), 3, found.shape[1:]).state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    pretrained.fetch(replace(found, url=f"{url}/{file.name}", sha256_prefix=digest[:8]), None, kept / name)
    return dict(weights.load(kept / name, "weights").tensors)


def photographs() -> dict[str, bytes]:
    """Of each class a hue, with noise: 8 images to train on and 3 to be judged by, of several sizes."""
    rng, files = np.random.default_rng(5), {}
    for place, name in enumerate(CLASSES):
        hue = 60 + 130 * rng.permutation(np.array([place % 3, place // 3 % 3, place // 9]) / 2)
        for split, count in (("train", 8), ("val", 3)):
            for number in range(count):
                pixels = rng.normal(hue, 12, (36 + number, 40, 3)).clip(0, 255).astype(np.uint8)
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "PNG")
                files[f"{split}/{name}/{number}.png"] = out.getvalue()
    return files


@pytest.mark.slow
def test_both_begin_from_published_weights_and_get_a_new_last_layer(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, given = tmp_path / "data", {}
    for name in (TEACHER, STUDENT):
        (tmp_path / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        given[name] = fetched(name, server, data_dir / "weights")
    network: dict[str, Any] = {"weights": "pretrained", "input_size": 32}
    spec: dict[str, Any] = {
        "dataset": {"id": "ds_", "validation": 0},
        "teacher": {**network, "architecture": TEACHER, "train": {"epochs": 4}},
        "student": {**network, "architecture": STUDENT},
        "training": {"epochs": 1, "batch_size": 8, "optimizer": {"name": "adam", "lr": 1e-3}},
    }
    with service(data_dir, STILLHOUSE_CHECKPOINT_SECONDS="60") as running:  # a checkpoint has 130 MB
        key = (data_dir / "api-key").read_text().strip()
        with Client((data_dir / "url").read_text().strip(), key) as client:
            upload = client.upload(zipped(tmp_path / "photographs.zip", photographs()))
            dataset = client.wait_for(client.create_dataset(name="photographs", upload=upload).id)
            assert dataset.state == "ready", dataset.report
            spec["dataset"]["id"] = dataset.id
            job = client.wait(client.submit(spec).id)
            log, _ = client.logs(job.id)
            assert job.status == "succeeded", (job.status_detail, log)
            client.download(job.id, tmp_path / "bundle")
        stages = [event["data"]["stage"] for event in running.events(job.id) if event["type"] == "job.stage_changed"]
        assert stages[1:4] == ["teacher", "training", "control"]
    described = json.loads((tmp_path / "bundle" / "student.json").read_text())
    assert (described["architecture"], described["classes"]) == (STUDENT, CLASSES)
    assert described["input"] == {"shape": [3, 32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert described["parameters"] == 1_528_106
    assert job.result is not None
    assert job.result.teacher is not None
    assert job.result.teacher.parameters == 11_181_642
    assert job.result.teacher.top1 > 0.5
    assert job.result.control is not None
    for role, head in (("teacher", "fc"), ("student", "classifier.3")):
        (line,) = {line for line in log.splitlines() if line.startswith(f"weights of the {role} from pretrained: ")}
        fitted = json.loads(line.partition("pretrained: ")[2])
        assert fitted["new_head"] == [f"{head}.weight", f"{head}.bias"]
        assert (fitted["left_over"], fitted["by_order"]) == ([], {})
    first = weights.read(tmp_path / "bundle" / "student.safetensors").tensors["features.0.0.weight"]
    moved = float((first - given[STUDENT]["features.0.0.weight"]).abs().max())
    assert 0 < moved < 0.1
