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
from worker.assembly import architecture_of, stem_of
from worker.engine.blackbox import BlackBox
from worker.engine.data import Dataset
from worker.engine.evaluate import Evaluation, Footprint, agreement, evaluate, measure
from worker.engine.exports import EXPORTS
from worker.engine.network import Network
from worker.engine.run import Run
from worker.engine.verdict import verdict
from worker.engine.weights import describe
from worker.report import render
from worker.sandbox import Protections


def write_bundle(
    folder: Path,
    *,
    spec: JobSpec,
    dataset: Dataset,
    runs: Mapping[str, Run],
    networks: Mapping[str, Network],
    settled: Mapping[str, Any],
    protections: Protections,
    on_export: Callable[[], None],
) -> dict[str, Any]:
    """Evaluate on the test split in fp32, compare, and write every file but the manifest. Returns the result.

    ``networks`` are those that ``runs`` trained and, where it came with its weights, the teacher.
    """
    tested = {name: evaluate(network, dataset.test.to(network.mean.device)) for name, network in networks.items()}
    on_export()
    student = networks["student-0"]
    weights = folder / "student.safetensors"
    EXPORTS["safetensors"](student, weights)
    sizes = {
        name: _bytes_of(network, folder / ".size")
        for name, network in networks.items()
        if name.endswith("-0") or name == "teacher"
    }
    result = _compare(networks, tested, sizes, dataset)
    report = _report(spec, dataset, runs, tested, settled, protections, result)
    report["environment"]["teacher_sha256"] = networks["teacher"].fingerprint() if "teacher" in networks else None
    _write_json(folder / "student.json", _describe(spec, dataset, student))
    _write_json(folder / "report.json", report)
    (folder / "report.html").write_text(render(report))
    (folder / "job.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    _write_json(folder / "environment.json", report["environment"])
    _write_metrics(folder / "metrics.csv", runs)
    return result


def _compare(
    networks: Mapping[str, Network], tested: Mapping[str, Evaluation], sizes: Mapping[str, int], dataset: Dataset
) -> dict[str, Any]:
    def headline(kind: str) -> dict[str, Any] | None:
        names = [name for name in networks if name.split("-")[0] == kind]
        if not names:
            return None
        shape = measure(networks[names[0]])
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
            "sandbox": {"held": protections.held, "missing": protections.missing},
        },
    }


def _describe(spec: JobSpec, dataset: Dataset, student: Network) -> dict[str, Any]:
    """Enough to rebuild the student: see design of ``student.json``."""
    parameters = sum(parameter.numel() for parameter in student.body.parameters())
    return describe(
        architecture_of(spec.student), stem_of(spec.student), student.preprocessing, dataset.classes, parameters
    )


def _bytes_of(network: Network, draft: Path) -> int:
    if isinstance(network.body, BlackBox):
        return network.body.bytes
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
