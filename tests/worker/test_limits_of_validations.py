"""What a validation may take, in memory and time, is told as that: never as damage to a sound file, or as a job's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from app.config import Settings
from app.db import Database
from app.storage import open_storage
from stillhouse.spec.reasons import REASONS
from tests.app.conftest import client, database, doorbell, migrated, settings  # noqa: F401  # fixtures
from tests.app.test_assets import make, taken
from tests.engine.archives import ingested
from tests.harness import TREE
from worker.engine.recorded.read import read
from worker.validation import Validation

VALUES = 24 * 2**20
"""In 96 MiB of floats, where half of that is free."""
NETWORK = {"architecture": "resnet8", "classes": ["a", "b"], "mean": [0.5], "std": [0.25], "input_size": 12}
PROGRAM = """
import json, re, resource
from pathlib import Path
import onnx, onnxruntime, pyarrow.parquet, torch
from worker import validate
from worker.child import Emitter
from worker.engine.network import Preprocessing, build_network, head_names
from worker.sandbox import Protections
shape = Preprocessing((1, 12, 12), (0.5,), (0.25,))  # what libraries take at first is not the file's
body = build_network(architecture="resnet8", classes=2, preprocessing=shape, seed=0).body
head_names(body, "resnet8", classes=2, preprocessing=shape)
plan = json.loads(Path("plan.json").read_text())
used = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
plan["memory_bytes"] += used
Path("plan.json").write_text(json.dumps(plan))
raise SystemExit(validate.run([], Emitter(1), Protections()))
"""


def torch_zip(path: Path) -> None:
    torch.save({"weight": torch.zeros(VALUES)}, path)


def torch_before_1_6(path: Path) -> None:
    torch.save({"weight": torch.zeros(VALUES)}, path, _use_new_zipfile_serialization=False)


def onnx_file(path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.zeros((VALUES, 1), np.float32), "weight")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["images", "weight"], ["out"])],
        "large",
        [onnx.helper.make_tensor_value_info("images", 1, ["N", 1, 1, VALUES])],
        [onnx.helper.make_tensor_value_info("out", 1, ["N", 1, 1, 1])],
        [weight],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)


def rows_as_halves(path: Path) -> None:
    save_file({"train": torch.zeros(VALUES // 2, 2, dtype=torch.float16)}, path)


FILES: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "torch": (torch_zip, NETWORK),
    "torch before 1.6": (torch_before_1_6, NETWORK),
    "onnx": (onnx_file, {**NETWORK, "architecture": "onnx"}),
    "rows": (rows_as_halves, {**NETWORK, "architecture": "logits"}),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_sound_file_that_needs_more_memory_is_not_called_damaged(tmp_path: Path, kind: str) -> None:
    write, declared = FILES[kind]
    write(tmp_path / "upload")
    plan = {"table": "models", "declared": declared, "name": "x", "appraisal": None, "memory_bytes": 2 * VALUES}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout, told.stderr
    last = json.loads(told.stdout.splitlines()[-1])
    assert last["event"] == "result", (last, told.stderr)
    limit = json.loads((tmp_path / "plan.json").read_text())["memory_bytes"]
    (problem,) = last["result"]["report"]["problems"]
    assert f"{limit:,} bytes of memory" in problem
    assert "STILLHOUSE_VALIDATION_MEMORY_BYTES" in problem
    assert "damaged" not in problem


@pytest.mark.parametrize("kind", ["rows", "images"])
def test_arrow_without_memory_says_nothing_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its threads end the process where memory is short, so its error is made here."""
    pq.write_table(pa.table({"a": [0.0, 1.0], "b": [1.0, 0.0]}), tmp_path / "x")

    def without_memory(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pq, "ParquetFile", without_memory)
    look = ingested if kind == "images" else lambda upload: read(upload, tmp_path / "scratch")
    with pytest.raises(MemoryError):
        look(tmp_path / "x")


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
def test_a_validation_that_takes_too_long_names_its_own_limit(
    client: TestClient,  # noqa: F811
    settings: Settings,  # noqa: F811
    database: Database,  # noqa: F811
    tmp_path: Path,
) -> None:
    dataset = make(client)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    Validation(
        settings.model_copy(update={"validation_seconds": 0.01}),
        database,
        open_storage(settings.storage_url),
        lease=taken(database),
        scratch=scratch,
        draining=threading.Event(),
    ).run()
    shown = client.get(f"/v1/datasets/{dataset}").json()
    assert shown["state"] == "rejected"
    (problem,) = shown["report"]["problems"]
    assert "took longer than 0.01 s" in problem
    assert "STILLHOUSE_VALIDATION_SECONDS" in problem
    for word in ("max_runtime", "epochs", "the job"):
        assert word not in problem


def test_the_limits_are_the_settings_of_these_names() -> None:
    names = {f"STILLHOUSE_{name.upper()}" for name in Settings.model_fields}
    assert {"STILLHOUSE_VALIDATION_MEMORY_BYTES", "STILLHOUSE_VALIDATION_SECONDS"} <= names
    assert "STILLHOUSE_VALIDATION_SECONDS" in REASONS["validation_limit"].remedy
