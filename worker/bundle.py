"""The comparison, and the files a finished job serves."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
import yaml

from stillhouse.spec import JobSpec
from stillhouse.spec.networks import NamedStudent
from worker.assembly import preprocessing_of
from worker.engine.data import Dataset
from worker.engine.evaluate import Evaluation, Footprint, agreement, evaluate, measure
from worker.engine.exports import EXPORTS
from worker.engine.network import Network
from worker.engine.run import Run
from worker.engine.verdict import verdict
from worker.report import render
from worker.sandbox import Protections


def write_bundle(
    folder: Path,
    *,
    spec: JobSpec,
    dataset: Dataset,
    runs: Mapping[str, Run],
    settled: Mapping[str, Any],
    protections: Protections,
    on_export: Callable[[], None],
) -> dict[str, Any]:
    """Evaluate on the test split in fp32, compare, and write every file but the manifest. Returns the result."""
    tested = {name: evaluate(run.student, dataset.test.to(run.device)) for name, run in runs.items()}
    on_export()
    student = runs["student-0"].student
    weights = folder / "student.safetensors"
    EXPORTS["safetensors"](student, weights)
    sizes = {
        name: _bytes_of(run.student, folder / ".size")
        for name, run in runs.items()
        if name.endswith("-0") or name == "teacher"
    }
    result = _compare(runs, tested, sizes, dataset)
    report = _report(spec, dataset, runs, tested, settled, protections, result)
    _write_json(folder / "student.json", _describe(spec, dataset, student))
    _write_json(folder / "report.json", report)
    (folder / "report.html").write_text(render(report))
    (folder / "job.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    _write_json(folder / "environment.json", report["environment"])
    _write_metrics(folder / "metrics.csv", runs)
    return result


def _compare(
    runs: Mapping[str, Run], tested: Mapping[str, Evaluation], sizes: Mapping[str, int], dataset: Dataset
) -> dict[str, Any]:
    def headline(kind: str) -> dict[str, Any] | None:
        names = [name for name in runs if name.split("-")[0] == kind]
        if not names:
            return None
        shape = measure(runs[names[0]].student)
        return _headline([tested[name] for name in names], shape, sizes[names[0]])

    students = [test for name, test in tested.items() if name.startswith("student")]
    controls = [test for name, test in tested.items() if name.startswith("control")]
    judged = (
        verdict(students, controls, dataset.test.labels.to(students[0].predictions.device)).sentence
        if controls
        else "No control was trained, so nothing can be said."
    )
    agreed = [agreement(test, tested["teacher"]) for test in students] if "teacher" in tested else []
    return {
        "teacher": headline("teacher"),
        "student": headline("student"),
        "control": headline("control"),
        "agreement": fmean(agreed) if agreed else None,
        "verdict": judged,
    }


def _headline(tests: list[Evaluation], shape: Footprint, size: int) -> dict[str, Any]:
    top1 = [test.top1 for test in tests]
    return {
        "top1": fmean(top1),
        "top5": fmean(test.top5 for test in tests),
        "loss": fmean(test.loss for test in tests),
        "top1_deviation": stdev(top1) if len(top1) > 1 else None,
        "parameters": shape.parameters,
        "flops": shape.flops,
        "bytes": size,
        "latency_ms": shape.latency_ms,
    }


def _report(
    spec: JobSpec,
    dataset: Dataset,
    runs: Mapping[str, Run],
    tested: Mapping[str, Evaluation],
    settled: Mapping[str, Any],
    protections: Protections,
    result: Mapping[str, Any],
) -> dict[str, Any]:
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "result": dict(result),
        "phases": {
            name: {
                "history": run.history,
                "best_epoch": run.best_epoch,
                "test": {"top1": tested[name].top1, "top5": tested[name].top5, "loss": tested[name].loss},
            }
            for name, run in runs.items()
        },
        "seeds": [spec.training.seed + index for index in range(spec.training.seeds)],
        "selection": "validation" if dataset.validation is not None else "last_epoch",
        "splits": {name: None if images is None else len(images) for name, images in splits.items()},
        "canaries": [sentence for run in runs.values() for sentence in run.canaries],
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "platform": platform.platform(),
            "processor": platform.machine(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            **settled,
            "dataset_sha256": dataset.fingerprint,
            "stored_dataset_sha256": dataset.stored_sha256,
            "teacher_sha256": runs["teacher"].student.fingerprint() if "teacher" in runs else None,
            "sandbox": {"held": protections.held, "missing": protections.missing},
        },
    }


def _describe(spec: JobSpec, dataset: Dataset, student: Network) -> dict[str, Any]:
    """Enough to rebuild the student: see design of ``student.json``."""
    described = spec.student
    architecture = (
        described.architecture
        if isinstance(described, NamedStudent)
        else {"layers": [layer.model_dump() for layer in described.layers]}
    )
    shape = preprocessing_of(dataset)
    return {
        "architecture": architecture,
        "input": {"shape": list(shape.shape), "mean": list(shape.mean), "std": list(shape.std)},
        "classes": list(dataset.classes),
        "parameters": sum(parameter.numel() for parameter in student.body.parameters()),
    }


def _bytes_of(network: Network, draft: Path) -> int:
    EXPORTS["safetensors"](network, draft)
    size = draft.stat().st_size
    draft.unlink()
    return size


def _write_metrics(path: Path, runs: Mapping[str, Run]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("phase", "epoch", "metric", "value"))
        for phase, run in runs.items():
            for row in run.history:
                writer.writerows((phase, row["epoch"], name, value) for name, value in row.items() if name != "epoch")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
