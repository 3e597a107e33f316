"""The API against its own description: whatever fits the schema, or does not, is answered as the schema says."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

BEYOND_THE_SCHEMA = [positive_data_acceptance]
"""A spec may fit the schema and be refused all the same: its data set, or its layers, decide."""
TAKES_ANY_TEXT = ("GET /v1/jobs",)
"""In a query an integer is text as well, and tags and metadata are text."""


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_a_described_one(client: TestClient, mode: GenerationMode) -> None:
    document = client.get("/openapi.json").json()
    for item in document["paths"].values():
        for operation in item.values():
            operation.pop("security", None)  # every request carries a good key; test_doors.py has the bad ones
    schema = schemathesis.openapi.from_dict(document)
    schema.app = client.app
    operations = [found.ok() for found in schema.get_all_operations()]
    checked = 0
    for operation in operations:
        unchecked = BEYOND_THE_SCHEMA + [negative_data_rejection] * (operation.label in TAKES_ANY_TEXT)
        with suppress(Unsatisfiable):  # an operation that takes no parameter cannot be asked wrongly
            hold(client, operation.as_strategy(generation_mode=mode), unchecked)
            checked += 1
    assert checked >= (len(operations) if mode is GenerationMode.POSITIVE else 7)


def hold(client: TestClient, cases: SearchStrategy[Case], unchecked: list[Any]) -> None:
    """Ask as each of ``cases`` says, and hold the answer against the description."""

    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(case=cases)
    def answers_as_described(case: Case) -> None:
        case.call_and_validate(headers=dict(client.headers), excluded_checks=unchecked)

    answers_as_described()
