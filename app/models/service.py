"""What can be done to models; the rest is ``app.assets``."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.assets import Assets
from app.auth import Caller
from app.errors import Invalid
from app.lifecycle.validation import state_of
from app.tables import DataSet, Job, Model
from stillhouse.resources import FieldError
from stillhouse.spec.datasets import DATASETS
from stillhouse.spec.footprints import close

MODELS = Assets(Model, "mdl", "model")


def check_dataset(session: Session, caller: Caller, named: str, *, classes: int) -> None:
    """Whether the accuracy of a model of so many classes can be measured on a data set. Raises Invalid."""
    if named.startswith("ds_"):
        problem, theirs = _uploaded(session, caller, named)
    elif named in DATASETS:
        problem, theirs = None, len(DATASETS[named].classes)
    else:
        problem, theirs = f"no data set is called {named!r}{close(named, DATASETS)}", 0
    if problem is None and theirs != classes:
        problem = f"{named} has {theirs} classes and the model {classes}; name a set of the model's classes"
    if problem is not None:
        raise Invalid(problem, errors=[FieldError(pointer="/dataset", code="not_usable", message=problem)])


def _uploaded(session: Session, caller: Caller, named: str) -> tuple[str | None, int]:
    """What is wrong with a data set of the project, if anything, and how many classes it has."""
    row = session.scalar(select(DataSet).where(DataSet.id == named, DataSet.project_id == caller.project_id))
    if row is None:
        return f"there is no data set {named} in this project; see /v1/datasets", 0
    if not row.accepted or row.facts is None:
        state = state_of(row, session.get(Job, row.job_id))
        return f"{named} is {state}; accuracy can be measured on a set that is ready", 0
    return None, len(row.facts["classes"])
