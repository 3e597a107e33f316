"""The comparison, and the files a finished job serves."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
import yaml

from stillhouse.spec import JobSpec
from stillhouse.spec.methods import title
from worker.assembly import Taught, architecture_of, build_teacher, stem_of
from worker.engine.blackbox import BlackBox
from worker.engine.data import Dataset
from worker.engine.ensemble import Ensemble
from worker.engine.evaluate import Evaluation, Footprint, agreement, evaluate, images_at_once, in_all, judge, measure
from worker.engine.exports import EXPORTS
from worker.engine.mixture import Mixture
from worker.engine.network import Network
from worker.engine.recorded import RecordedTeacher
from worker.engine.run import Run
from worker.engine.verdict import verdict
from worker.engine.weights import describe
from worker.report import render
from worker.sandbox import Protections

_PACKAGES = ("stillhouse", "torch", "torchvision", "numpy", "safetensors", "scikit-learn", "scipy", "timm")


def write_bundle(  # noqa: PLR0913  # each by its keyword, from the one place that has them all
    folder: Path,
    *,
    spec: JobSpec,
    dataset: Dataset,
    runs: Mapping[str, Run],
    networks: Mapping[str, Network],
    files: Mapping[str, RecordedTeacher] | None = None,
    settled: Mapping[str, Any],
    protections: Protections,
    on_stage: Callable[[str], None],
    alive: Callable[[], None],
) -> dict[str, Any]:
    """Evaluate on the test split in fp32, compare, and write every file but the manifest. Returns the result.

    ``networks`` are those that ``runs`` trained and the teachers that came with their weights; ``files`` are the
    teachers that are files of logits.
    """
    on_stage("evaluating")
    tested: dict[str, Evaluation] = {}
    for name, network in networks.items():
        tested[name] = evaluate(network, dataset.test.to(network.mean.device), alive=alive)
    teacher = build_teacher(spec, networks, files or {})
    test = dataset.test.to(runs["student-0"].device)
    if isinstance(teacher, Ensemble):
        tested["teacher"] = evaluate(teacher, test, alive=alive)
    if isinstance(teacher, RecordedTeacher) and teacher.test is not None:
        tested["teacher"] = judge([teacher.test.to(test.labels.device)], test.labels)
    if isinstance(teacher, Mixture) and teacher.tells_of_test:
        at_once = images_at_once(teacher.network) if teacher.network is not None else len(test)
        tested["teacher"] = judge(teacher.on_test(test, at_once=at_once), test.labels, alive=alive)
    on_stage("exporting")
    student = networks["student-0"]
    weights = folder / "student.safetensors"
    EXPORTS["safetensors"](student, weights)
    sizes = {
        name: _bytes_of(network, folder / ".size")
        for name, network in networks.items()
        if name.endswith("-0") or name.startswith("teacher")
    }
    compared = {name: network for name, network in networks.items() if not files or not name.startswith("teacher")}
    result = _compare(compared, tested, sizes, dataset)
    if files:
        size = sum(file.rows.nbytes for file in files.values())
        size += sum(sizes[name] for name in networks if name.startswith("teacher"))
        result["teacher"] = _recorded_headline(size, tested.get("teacher"))
    report = _report(spec, dataset, runs, tested, settled, protections, result, teacher)
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
        if kind == "teacher":  # one, or several that are judged, and cost, as one
            shape = in_all([measure(networks[name]) for name in names])
            return _headline([tested["teacher"]], shape, sum(sizes[name] for name in names))
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


def _recorded_headline(size: int, tested: Evaluation | None) -> dict[str, Any]:
    """With a file among the teachers there are bytes, and figures on the test split if it tells; no more is known."""
    unknown = dict.fromkeys(("parameters", "flops", "latency_ms", "top1_deviation"))
    known = {name: None if tested is None else getattr(tested, name) for name in ("top1", "top5", "loss")}
    return {**known, **unknown, "bytes": size}


def _report(
    spec: JobSpec,
    dataset: Dataset,
    runs: Mapping[str, Run],
    tested: Mapping[str, Evaluation],
    settled: Mapping[str, Any],
    protections: Protections,
    result: Mapping[str, Any],
    teacher: Taught | None,
) -> dict[str, Any]:
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "method": title(spec.method),
        "result": dict(result),
        "phases": {
            name: {
                "history": run.history,
                "best_epoch": run.best_epoch,
                "test": {"top1": tested[name].top1, "top5": tested[name].top5, "loss": tested[name].loss},
            }
            for name, run in runs.items()
        },
        "generations": _generations(spec, tested),
        "selection": "validation" if dataset.validation is not None else "last_epoch",
        "splits": {name: None if images is None else len(images) for name, images in splits.items()},
        "canaries": [f"{name}: {sentence}" for name, run in runs.items() for sentence in run.canaries],
        "environment": {
            "python": platform.python_version(),
            "packages": {name: version(name) for name in _PACKAGES},
            "platform": platform.platform(),
            "processor": _processor(),
            "seeds": [spec.training.seed + index for index in range(spec.training.seeds)],
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            **settled,
            "dataset_sha256": dataset.fingerprint,
            "stored_dataset_sha256": dataset.stored_sha256,
            "teacher_sha256": teacher.fingerprint() if teacher is not None else None,
            "sandbox": {"held": protections.held, "missing": protections.missing},
        },
    }


def _generations(spec: JobSpec, tested: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """Of a born-again student each generation's accuracy, mean over seeds; the last one is the student served."""
    count, seeds = spec.training.generations, range(spec.training.seeds)
    names = [f"generation-{generation}-" for generation in range(1, count)] + ["student-"]
    top1 = [[tested[f"{name}{index}"].top1 for index in seeds] for name in names]
    return [{"generation": place, "top1": fmean(each)} for place, each in enumerate(top1, 1)] if count > 1 else []


def _processor() -> str:
    """The CPU's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _describe(spec: JobSpec, dataset: Dataset, student: Network) -> dict[str, Any]:
    """Enough to rebuild the student: see design of ``student.json``."""
    parameters = sum(parameter.numel() for parameter in student.body.parameters())
    described = describe(
        architecture_of(spec.student), stem_of(spec.student), student.preprocessing, dataset.classes, parameters
    )
    return {**described, **({"additions": student.additions} if student.additions else {})}


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
