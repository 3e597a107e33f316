"""Methods in a spec: their defaults, combinations, and what is refused or warned of before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from stillhouse.spec import JobSpec
from stillhouse.spec.methods import METHODS, Imitation, title
from stillhouse.spec.methods.fitness import examine
from stillhouse.spec.methods.taps import read_by
from stillhouse.spec.review import review
from worker.assembly import build_method
from worker.engine.errors import MethodRefused
from worker.engine.methods import METHODS as ENGINE
from worker.engine.methods.combination import Combination
from worker.engine.network import Network, Preprocessing, build_network
from worker.engine.precision import Precision
from worker.engine.prepare import prepare
from worker.engine.teacher import LiveTeacher


def built(architecture: str) -> Network:
    return build_network(
        architecture=architecture, classes=10, preprocessing=Preprocessing((1, 8, 8), (0.3,), (0.4,)), seed=0
    )


TEACHING = [name for name in METHODS if name != "none"]


def job(method: Any, **others: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "dataset": {"id": "digits"},
            "teacher": {"architecture": "resnet20"},
            "student": {"architecture": "resnet8"},
            "method": method,
            **others,
        }
    )


@pytest.mark.parametrize("name", TEACHING)
def test_every_method_runs_with_its_name_alone(name: str) -> None:
    spec = job({"name": name}).complete()
    assert not review(spec).errors
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert not isinstance(build_method(spec), Combination)


@pytest.mark.parametrize("name", TEACHING)
def test_every_field_is_bounded_and_every_weight_is_described(name: str) -> None:
    model = METHODS[name]
    assert "Loss" in (model.__doc__ or "") or name == "ofa"
    for field, schema in model.model_json_schema()["properties"].items():
        text = str(schema)
        if field != "name" and "boolean" not in text:
            assert "imum" in text or "maxLength" in text, field
        if field.startswith("weight_"):
            assert schema["description"], field


@pytest.mark.parametrize("name", TEACHING)
def test_a_method_that_would_distil_nothing_is_refused(name: str) -> None:
    model = METHODS[name]
    assert issubclass(model, Imitation)
    for zeros in [[factor] for factor in model.needed] + ([list(model.parts)] if model.parts else []):
        with pytest.raises(ValidationError, match="nothing would be distilled"):
            job({"name": name, **dict.fromkeys(zeros, 0.0)})


def test_standardised_logits_have_their_own_reference_values() -> None:
    method = job({"name": "kd", "standardise": True}).method
    assert (method.temperature, method.weight_kd, method.weight_ce) == (2.0, 9.0, 0.1)  # type: ignore[union-attr]
    given = job({"name": "kd", "standardise": True, "weight_kd": 3.0}).method
    assert given.weight_kd == 3.0  # type: ignore[union-attr]


def test_what_is_left_out_follows_the_number_of_classes() -> None:
    small, large = (job({"name": "kd"}).complete(classes=classes).method for classes in (100, 1000))
    assert (small.temperature, small.weight_kd) == (4.0, 0.9)  # type: ignore[union-attr]
    assert (large.temperature, large.weight_ce, large.weight_kd) == (1.0, 0.5, 0.5)  # type: ignore[union-attr]
    given = job({"name": "dkd", "temperature": 4.0}).complete(classes=1000).method
    assert (given.temperature, given.weight_nontarget, given.warmup_epochs) == (4.0, 0.5, 1)  # type: ignore[union-attr]


LOGITS = {"architecture": "logits", "weights": "mdl_1"}


@pytest.mark.parametrize(
    ("given", "others", "views"),
    [
        ({}, {"training": {"augmentation": "crop"}}, 2),
        ({}, {"training": {"augmentation": "none"}}, 1),
        ({}, {"training": {"augmentation": "crop"}, "teacher": LOGITS}, 1),
        ({"views": 1}, {"training": {"augmentation": "crop"}}, 1),
        ({"views": 2}, {"training": {"augmentation": "none"}}, 2),
    ],
)
def test_mlkd_shows_two_views_where_images_are_changed_at_all(
    given: dict[str, Any], others: dict[str, Any], views: int
) -> None:
    """What was left out is written out; that a step takes twice as long is warned of."""
    for method in ({"name": "mlkd", **given}, [{"name": "fitnet"}, {"name": "mlkd", **given}]):
        if isinstance(method, list) and others.get("teacher") == LOGITS:
            continue
        spec = job(method, **others)
        found, complete = review(spec), spec.complete()
        assert not found.errors
        assert complete.imitations[-1].model_dump()["views"] == views
        assert JobSpec.model_validate_json(complete.model_dump_json()) == complete
        assert build_method(complete).strong_view == (views == 2)
        assert sum("two views" in warning for warning in found.warnings) == (views == 2)


def test_a_file_of_logits_knows_no_second_view() -> None:
    (error,) = review(job({"name": "mlkd", "views": 2}, teacher=LOGITS)).errors
    assert (error.pointer, "set views: 1" in error.message) == ("/method/views", True)


def test_a_combination_is_listed_with_weights() -> None:
    spec = job([{"name": "fitnet", "weight": 0.5}, {"name": "kd", "standardise": True}]).complete()
    assert title(spec.method) == "fitnet + kd"
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    built = build_method(spec)
    assert isinstance(built, Combination)
    assert built.weights == {"fitnet": 0.5, "kd": 1.0}
    assert isinstance(build_method(job({"name": "kd", "weight": 2.0})), Combination)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "at least 1"),
        ([{"name": "kd"}, {"name": "kd"}], "once"),
        ([{"name": "kd"}, {"name": "none"}], "imitates nothing"),
        ([{"name": "kd"}, {"name": "patient"}], "mixes images"),
        ([{"name": "kd", "weight": 0}], "greater than 0"),
        ([{"name": "fitnet", "student_points": ["../x"]}], "match pattern"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused(listed: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        job(listed)


def test_few_classes_are_refused_or_warned_of_at_the_field() -> None:
    def examined(classes: int, **fields: Any) -> tuple[list[str], int]:
        (method,) = job(fields).imitations
        found = examine(method, classes=classes, images=1000)
        return [name for name, _ in found.refusals], len(found.warnings)

    for name in ("kd", "dkd", "mlkd"):
        assert examined(2, name=name, standardise=True)[0] == ["standardise"]
        assert examined(20, name=name, standardise=True) == ([], 1)
        assert examined(21, name=name, standardise=True) == ([], 0)
    assert examined(2, name="dist") == (["name"], 0)
    assert examined(3, name="dist") == ([], 0)
    assert examined(2, name="dkd") == ([], 1)
    assert examined(10, name="crd") == ([], 1)
    assert examined(10, name="crd", negatives=1000) == ([], 0)


@pytest.mark.parametrize("name", TEACHING)
def test_the_points_that_are_promised_are_those_the_engine_reads(name: str) -> None:
    """Of kinds, and of names: the dry run's are what a run captures."""
    promised = METHODS[name]
    assert issubclass(promised, Imitation)
    taps = ENGINE[name]().taps
    assert tuple(tap.kind for tap in taps if tap.network == "student") == promised.student_kinds
    assert tuple(tap.kind for tap in taps if tap.network == "teacher") == promised.teacher_kinds
    assert promised.reads_features == bool(promised.teacher_kinds)
    spec, networks = job({"name": name}), [built("resnet8"), built("resnet20")]
    found = review(spec)
    prepare(
        ENGINE[name](),
        student=networks[0],
        teacher=LiveTeacher(networks[1], precision=Precision("fp32", scales_gradients=False)),
        labels=torch.arange(10),
        seed=0,
    )
    for role, network, footprint in zip(("student", "teacher"), networks, (found.student, found.teacher), strict=True):
        shown = read_by(spec.imitations, role, footprint)  # type: ignore[arg-type]
        captured = network.capture.points if network.capture else ()
        assert tuple(sorted(shown)) == tuple(sorted(captured))
        if name != "simkd":  # whose projector changes the shape of the student's point
            assert shown == {k: list(v) for k, v in network.capture_points(captured, whose=role).items()}


NAMED: dict[str, dict[str, Any]] = {
    "one of the student's": {"student_points": ["layer2"]},
    "two of the teacher's": {"teacher_points": ["layer1", "layer3"]},
    "one against two": {"student_points": ["layer2"], "teacher_points": ["layer1", "layer3"]},
    "two against two": {"student_points": ["layer1", "layer2"], "teacher_points": ["layer1", "layer3"]},
    "as many as the stages": {"student_points": ["layer1", "layer2", "layer3"]},
}


@pytest.mark.parametrize("case", NAMED)
@pytest.mark.parametrize("name", ["at", "sp", "vid", "reviewkd"])
def test_points_that_cannot_be_paired_are_refused_with_the_spec_where_the_engine_would(name: str, case: str) -> None:
    """What is named on one side alone is never paired with a point that nobody meant."""
    found = review(job({"name": name, **NAMED[case]}))
    try:
        prepare(
            ENGINE[name](**NAMED[case]),
            student=built("resnet8"),
            teacher=LiveTeacher(built("resnet20"), precision=Precision("fp32", scales_gradients=False)),
            labels=torch.arange(10),
            seed=0,
        )
        refused = ""
    except MethodRefused as error:
        refused = f"{error} {error.remedy}"
    assert [error.pointer for error in found.errors] == ([f"/method/{next(iter(NAMED[case]))}"] if refused else [])
    own = 1 if name == "sp" else 3
    counts = [len(NAMED[case].get(f"{role}_points", range(own))) for role in ("student", "teacher")]
    assert bool(refused) == (counts[0] != counts[1])
    for said in (refused, *(error.message for error in found.errors)):
        assert not said or "cannot be paired with" in said


def test_points_that_the_catalog_does_not_know_are_shown_without_a_shape() -> None:
    spec = job({"name": "at", "student_points": ["layer1.0.conv1", "layer2"]})
    found = review(spec)
    assert read_by(spec.imitations, "student", found.student) == {"layer1.0.conv1": None, "layer2": [32, 4, 4]}
    assert read_by(spec.imitations, "student", None) == {"layer1.0.conv1": None, "layer2": None}
    assert read_by(spec.imitations, "teacher", None) == {"(stages)": None}


@pytest.mark.parametrize(
    ("method", "pointer", "words"),
    [
        (
            {"name": "at", "student_points": ["2", "9"]},
            "/method/student_points",
            "the student has no feature point '9'",
        ),
        ({"name": "at"}, "/method/name", "at reads a map at the end of a stage, and the teacher's layers have none"),
        ([{"name": "kd"}, {"name": "fitnet"}], "/method/1/name", "the teacher's layers have none"),
        ({"name": "at", "teacher_points": ["0"]}, None, ""),
        ({"name": "rkd"}, None, ""),
        ({"name": "ofa"}, None, ""),
    ],
)
def test_points_that_a_list_of_layers_does_not_have_are_refused_at_once(
    method: Any, pointer: str | None, words: str
) -> None:
    conv = [{"name": "conv", "channels": 4}, {"name": "relu"}, {"name": "globalpool"}, {"name": "linear"}]
    networks = {"student": {"layers": conv}, "teacher": {"layers": [{"name": "flatten"}, {"name": "linear"}]}}
    given = {"dataset": {"id": "digits"}, **networks, "method": method}
    errors = review(JobSpec.model_validate(given)).errors
    assert [error.pointer for error in errors][:1] == ([] if pointer is None else [pointer])
    assert not errors or words in errors[0].message
    swapped = {**given, "student": networks["teacher"], "method": {"name": "ofa", "weight_feature": 0.0}}
    assert not review(JobSpec.model_validate(swapped)).errors
    assert review(JobSpec.model_validate({**swapped, "method": {"name": "ofa"}})).errors


@pytest.mark.parametrize(("method", "percent"), [("dkd", "50%"), ("reviewkd", "50%"), ("kd", None)])
def test_a_warm_up_that_outlasts_the_training_is_warned_of(method: str, percent: str | None) -> None:
    def said(fields: dict[str, Any], epochs: int) -> list[str]:
        warnings = review(job({"name": method, **fields}, training={"epochs": epochs})).warnings
        return [warning for warning in warnings if "warmup_epochs" in warning]

    assert [percent is not None and percent in warning for warning in said({}, 10)] == [True] * (percent is not None)
    assert said({}, 20) == []
    if percent is not None:
        assert said({"warmup_epochs": 5}, 10) == []


def test_a_dry_run_says_so() -> None:
    found = review(job([{"name": "crd"}, {"name": "kd", "standardise": True}]))
    assert any("as many negatives" in warning for warning in found.warnings)
    assert any("10 classes" in warning for warning in found.warnings)
