"""A spec that is written wrongly: what its author is told, and where."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stillhouse.spec import JobSpec
from stillhouse.spec.pointers import pointer
from stillhouse.spec.wording import message


@pytest.mark.parametrize(
    ("changes", "pointer_to", "words"),
    [
        ({"method": "kd"}, "/method", "write {name: kd}"),
        ({"method": {"temperature": 4}}, "/method", "the name is missing; add name, one of kd, dkd"),
        ({"method": {"name": "kdd"}}, "/method", "did you mean kd"),
        ({"method": [{"name": "kd", "temprature": 4}]}, "/method/0/temprature", "did you mean temperature?"),
        ({"student": "resnet8"}, "/student", "write {architecture: resnet8}"),
        ({"student": {"layers": [{"conv": 8}]}}, "/student/layers/0", "write {name: conv, ...}"),
        ({"student": {"layers": [{"name": "conv", "chanels": 8}]}}, "/student/layers/0/chanels", "did you mean chan"),
        ({"training": {"optimizer": {"lr": 1}}}, "/training/optimizer", "one of sgd, adam, adamw"),
        ({"training": {"epoch": 3}}, "/training/epoch", "did you mean epochs?"),
        ({"teacher": None}, "/teacher", "needs a teacher"),
        ({"method": {"name": "none"}}, "/teacher", "uses no teacher"),
        ({"method": [{"name": "kd"}, {"name": "none"}]}, "/method", "imitates nothing"),
    ],
)
def test_what_is_written_wrongly_is_told_at_its_place_with_what_to_write(
    changes: dict[str, Any], pointer_to: str, words: str
) -> None:
    given = {
        "dataset": {"id": "digits"},
        "teacher": {"architecture": "resnet20"},
        "student": {"architecture": "resnet8"},
    }
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(given | changes)
    told = {
        pointer(found["loc"], given | changes, missing=found["type"] == "missing"): message(
            found, found["loc"], JobSpec
        )
        for found in caught.value.errors()
    }
    assert words in told[pointer_to]
