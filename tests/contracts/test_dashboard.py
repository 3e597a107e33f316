"""The Grafana dashboard: read by Grafana's own published schema, its expressions parsed, its metrics ours.

Grafana itself cannot be had here; what it would refuse or show empty is what these look for.
"""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
from fastapi.testclient import TestClient
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from app.config import Settings
from app.db import Database
from app.main import create_app
from app.migrate import upgrade
from tests.app.conftest import RecordingDoorbell, bearer, make_key, submit
from tests.app.test_fleet import report
from tests.harness import TREE

FILE = TREE / "docs" / "how-to" / "grafana.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
EXPRESSIONS = [target["expr"] for panel in DOCUMENT["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """By sample name, the labels it has, as an API in use gives them."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), upkeep_seconds=3600)
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    report(database)
    with TestClient(create_app(settings, doorbell=RecordingDoorbell()), headers=bearer(make_key(database))) as client:
        submit(client)
        text = client.get("/v1/metrics").text
    database.dispose()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_grafanas_schema_knows_every_field() -> None:
    register_default_plugins()
    understood = json.loads(json.dumps(Dashboard.from_json(DOCUMENT), cls=JSONEncoder))
    assert lost(DOCUMENT, understood) == []


def lost(given: Any, understood: Any, where: str = "") -> list[str]:
    """What is in ``given`` and not in ``understood``: fields that the schema does not have."""
    if isinstance(given, dict):
        if not isinstance(understood, dict):
            return [where]
        return [
            path
            for key, value in given.items()
            for path in (lost(value, understood[key], f"{where}/{key}") if key in understood else [f"{where}/{key}"])
        ]
    if isinstance(given, list):
        if not isinstance(understood, list) or len(understood) != len(given):
            return [where]
        return [
            path for n, pair in enumerate(zip(given, understood, strict=True)) for path in lost(*pair, f"{where}/{n}")
        ]
    return [] if given == understood else [where]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_what_we_export(expression: str, exported: dict[str, set[str]]) -> None:
    parsed = promql_parser.parse(expression)
    names = set(re.findall(r"\bstillhouse_\w+", parsed.prettify()))
    assert len(names) == 1
    (name,) = names
    assert name in exported
    labels = {label for inside in re.findall(r"by \(([^)]*)\)", expression) for label in inside.split(", ")}
    labels |= set(re.findall(r"(\w+)=~?\"", expression))
    assert labels <= exported[name]


def test_no_panel_lies_on_another() -> None:
    cells = [
        (x, y)
        for panel in DOCUMENT["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DOCUMENT["panels"]}) == len(DOCUMENT["panels"])


def test_a_field_that_the_schema_lacks_would_be_found() -> None:
    register_default_plugins()
    odd = {**DOCUMENT, "tittle": "x"}
    assert lost(odd, json.loads(json.dumps(Dashboard.from_json(odd), cls=JSONEncoder))) == ["/tittle"]
    with pytest.raises(ValueError, match="unclosed"):
        promql_parser.parse("sum by (x (stillhouse_jobs)")
