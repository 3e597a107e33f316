"""Methods in a spec: their defaults, combinations, and what is refused or warned of before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stillhouse.spec import JobSpec
from stillhouse.spec.methods import METHODS, Imitation, title
from stillhouse.spec.methods.fitness import examine
from stillhouse.spec.review import review
from worker.assembly import build_method
from worker.engine.methods.combination import Combination

TEACHING = [name for name in METHODS if name != "none"]


def job(method: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "dataset": {"id": "digits"},
            "teacher": {"architecture": "resnet20"},
            "student": {"architecture": "resnet8"},
            "method": method,
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
        method = job(fields).method
        assert isinstance(method, Imitation)
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


def test_a_dry_run_says_so() -> None:
    found = review(job([{"name": "crd"}, {"name": "kd", "standardise": True}]))
    assert any("as many negatives" in warning for warning in found.warnings)
    assert any("10 classes" in warning for warning in found.warnings)
