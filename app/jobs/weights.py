"""Whether the weights a spec names can be had: a model or another job's student, of this project and architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import Caller
from app.errors import Invalid
from app.tables import DataSet, Job, Model
from stillhouse.resources import FieldError
from stillhouse.spec import JobSpec
from stillhouse.spec.catalog import split_tag
from stillhouse.spec.datasets import DATASETS, DatasetFacts
from stillhouse.spec.footprints import FINE_TUNE, LOGITS, ONNX


def check_weights(session: Session, caller: Caller, spec: JobSpec, dataset: DatasetFacts) -> None:
    """Raises Invalid with pointers. ``dataset`` is the one that the spec names.

    What the spec names is locked against being deleted before the job that names it is there.
    """
    given = spec.model_dump(mode="json")
    networks = {"/student": given["student"]}
    if isinstance(given["teacher"], list):
        networks |= {f"/teacher/{index}": each for index, each in enumerate(given["teacher"])}
    elif given["teacher"] is not None:
        networks["/teacher"] = given["teacher"]
    errors = []
    for pointer, network in networks.items():
        named = network["weights"]
        if named is not None and named != "pretrained":
            if named.startswith("mdl_"):
                problem = _model_problem(session, caller, named, network, dataset)
            else:
                problem = _job_problem(session, caller, named, network)
                problem = problem or _student_problem(session, caller, named, network, dataset)
                if problem is None and pointer == "/student":
                    problem = _growth_problem(session, named, spec)
            if problem is not None:
                errors.append(FieldError(pointer=f"{pointer}/weights", code="does_not_fit", message=problem))
    if errors:
        raise Invalid("; ".join(f"{error.pointer}: {error.message}" for error in errors), errors=errors)


def _model_problem(
    session: Session, caller: Caller, named: str, network: Mapping[str, Any], dataset: DatasetFacts
) -> str | None:
    wanted = select(Model).where(Model.id == named, Model.project_id == caller.project_id)
    model = session.scalar(wanted.with_for_update(read=True))
    if model is None:
        return f"there is no model {named} in this project; see /v1/models"
    if not model.accepted or model.facts is None:
        return f"the model {named} is not ready; see what /v1/models/{named} says of it"
    if model.facts["architecture"] != network.get("architecture"):
        return f"the model {named} is {model.facts['architecture']}; give this network the same architecture"
    if network["architecture"] == LOGITS:
        return _rows_problem(named, model.facts, dataset)
    classes = model.facts.get("classes")
    return _classes_problem(named, len(classes), network, dataset) if classes is not None else None


def _classes_problem(named: str, classes: int, network: Mapping[str, Any], dataset: DatasetFacts) -> str | None:
    """A student, and a teacher that is trained first, get a last layer of their own."""
    if "train" not in network or network["train"] is not None or classes == len(dataset.classes):
        return None
    message = f"{named} tells {classes:,} classes apart, and {dataset.name} has {len(dataset.classes):,}"
    remedy = "export one of those classes" if network.get("architecture") == ONNX else FINE_TUNE
    return f"{message}; {remedy}"


def _rows_problem(named: str, facts: Mapping[str, Any], dataset: DatasetFacts) -> str | None:
    """A file of logits has a row for each image of a split as published or uploaded, and a column for each class."""
    if len(facts["classes"]) != len(dataset.classes):
        return f"{named} tells {len(facts['classes'])} classes apart, and {dataset.name} has {len(dataset.classes)}"
    for split, images in (("train", dataset.train), ("test", dataset.test)):
        rows = facts["rows"].get(split)
        if rows is not None and facts.get("named") and images is not None and rows >= images:
            continue  # which row is of which image is seen when the job begins
        if rows is not None and rows != images:
            has = f"{images:,} {split} images" if images is not None else f"no {split} split"
            return f"{named} has {rows:,} rows for {split}, and {dataset.name} {has}; give one row for each, in order"
    return None


def _job_problem(session: Session, caller: Caller, named: str, network: Mapping[str, Any]) -> str | None:
    wanted = select(Job).where(Job.id == named, Job.project_id == caller.project_id, Job.kind == "distillation")
    job = session.scalar(wanted.with_for_update(read=True))
    if job is None:
        return f"there is no job {named} in this project; see /v1/jobs"
    if job.status != "succeeded":
        return f"the job {named} is {job.status}; its student can be used once it has succeeded"
    student = job.spec["student"]
    if any(_plain(student.get(name)) != _plain(network.get(name)) for name in ("architecture", "layers")):
        is_ = student.get("architecture") or f"a list of {len(student['layers'])} layers"
        return f"the student of {named} is {is_}; give this network the same architecture"
    return None


def _growth_problem(session: Session, named: str, spec: JobSpec) -> str | None:
    """``simkd`` puts a teacher's last layer in the place of the student's own, which only a plain student has."""
    trained = session.get_one(Job, named).spec["method"]
    before = {method["name"] for method in (trained if isinstance(trained, list) else [trained])}
    if "simkd" not in before & {method.name for method in spec.imitations}:
        return None
    return f"the student of {named} has a teacher's last layer from simkd already; choose other weights, or kd"


def _student_problem(
    session: Session, caller: Caller, named: str, network: Mapping[str, Any], dataset: DatasetFacts
) -> str | None:
    """A job's student tells the classes of its data set apart; of one that was deleted since nobody knows them here."""
    dataset_id = session.get_one(Job, named).spec["dataset"]["id"]
    if (known := DATASETS.get(dataset_id)) is not None:
        return _classes_problem(named, len(known.classes), network, dataset)
    uploaded = select(DataSet.facts).where(DataSet.id == dataset_id, DataSet.project_id == caller.project_id)
    facts = session.scalar(uploaded)
    return _classes_problem(named, len(facts["classes"]), network, dataset) if facts is not None else None


def _plain(described: Any) -> Any:
    """An architecture's name without the tag of the weights that it was trained from."""
    return split_tag(described)[0] if isinstance(described, str) else described
