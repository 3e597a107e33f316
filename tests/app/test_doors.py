"""Who may pass, and how every error looks."""

from __future__ import annotations

import json
import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from app.config import Settings
from app.db import Database
from app.health import router as health
from app.main import create_app
from stillhouse import assets, fleet, projects, resources
from tests.app.conftest import SPEC, RecordingDoorbell, bearer, make_key, submit

OPEN = {"/healthz", "/readyz", "/openapi.json"}


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Every route there is; none is hidden from the description."""
    return [(method.upper(), path) for path, item in openapi(client)["paths"].items() for method in item]


def openapi(client: TestClient) -> dict:  # type: ignore[type-arg]
    return client.get("/openapi.json").json()  # type: ignore[no-any-return]


def test_nobody_passes_without_a_key(client: TestClient) -> None:
    closed = [(method, path) for method, path in routes(client) if path not in OPEN]
    assert len(closed) > 15
    for method, path in closed:
        for headers in ({"Authorization": ""}, bearer("sk_wrong"), {"Authorization": "Basic eDp5"}):
            response = client.request(method, path.replace("{kind}", "methods"), headers=headers, json=SPEC)
            assert response.status_code == 401, (method, path)
            assert method == "HEAD" or response.json()["code"] == "unauthorized", (method, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"


def test_another_project_sees_nothing(client: TestClient, stranger: dict[str, str]) -> None:
    job_id = submit(client)
    assert client.get("/v1/jobs", headers=stranger).json()["data"] == []
    for method, path in routes(client):
        if "{job_id}" in path:
            response = client.request(method, path.replace("{job_id}", job_id), headers=stranger)
            assert response.status_code == 404, (method, path)
    key_id = client.get("/v1/api-keys").json()["data"][0]["id"]
    assert client.delete(f"/v1/api-keys/{key_id}", headers=stranger).status_code == 404


def test_a_revoked_key_is_refused(client: TestClient) -> None:
    made = client.post("/v1/api-keys", json={"name": "second", "scopes": ["jobs:read"]}).json()
    assert client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 200
    for _ in range(2):
        assert client.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    assert client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 401


def test_a_secret_is_shown_once_and_stored_nowhere(client: TestClient, settings: Settings) -> None:
    secret = client.post("/v1/api-keys", json={"name": "second"}).json()["key"]
    assert secret not in client.get("/v1/api-keys").text
    stored = b"".join(path.read_bytes() for path in settings.data_dir.iterdir() if path.is_file())
    assert secret.encode() not in stored


def test_a_key_cannot_revoke_itself_nor_the_last_admin(client: TestClient, database: Database) -> None:
    own = client.get("/v1/api-keys").json()["data"][0]["id"]
    assert client.delete(f"/v1/api-keys/{own}").status_code == 409
    other = bearer(make_key(database))
    assert client.delete(f"/v1/api-keys/{own}", headers=other).status_code == 204
    assert client.get("/v1/jobs").status_code == 401


def test_every_error_is_a_problem_with_the_requests_id(client: TestClient) -> None:
    cases = [
        (client.get("/v1/nothing"), 404, "not_found"),
        (client.get("/v1/jobs/job_nothing"), 404, "not_found"),
        (client.get("/v1/jobs/%2e%2e%2fetc"), 404, "not_found"),
        (client.put("/v1/jobs"), 405, "method_not_allowed"),
        (
            client.post("/v1/jobs", content=b"{not json", headers={"Content-Type": "application/json"}),
            400,
            "malformed_json",
        ),
        (client.post("/v1/jobs", json=[1]), 422, "invalid_spec"),
        (client.post("/v1/jobs", content=b"{}"), 415, "unsupported_media_type"),
        (client.post("/v1/jobs", content=b"\xff", headers={"Content-Type": "application/json"}), 400, "malformed_json"),
        (client.get("/v1/jobs?created_after=0001-01-01T00:00:00%2B14:00&limit=999"), 422, "invalid_spec"),
        (client.get(f"/v1/jobs/job_x/logs?offset={2**31}"), 422, "invalid_spec"),
        (client.get("/v1/jobs?limit=0"), 422, "invalid_spec"),
        (client.get("/v1/jobs?stauts=queued"), 422, "unknown_parameter"),
        (client.get("/v1/jobs?cursor=nonsense"), 422, "invalid_cursor"),
        (client.get("/v1/catalog/secrets"), 404, "not_found"),
    ]
    for response, status, code in cases:
        body = response.json()
        assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
        assert response.headers["Content-Type"] == "application/problem+json"
        assert body["request_id"] == response.headers["X-Request-ID"]


def test_a_key_that_is_given_twice_is_refused_and_named(client: TestClient) -> None:
    plain = json.dumps(SPEC)
    twice = plain.replace('"epochs": 2', '"epochs": 2, "epochs": 3').replace('"relu"', '"x", "name": "y"')
    answer = client.post("/v1/jobs", content=twice, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_spec")
    found = {error["pointer"]: error["code"] for error in answer.json()["errors"]}
    assert found == {"/training/epochs": "given_twice", "/student/layers/2/name": "given_twice"}
    assert client.get("/v1/jobs").json()["data"] == []
    deep = "[" * 900 + "]" * 900
    nested = client.post("/v1/jobs", content=deep, headers={"Content-Type": "application/json"})
    assert nested.status_code in (400, 422)
    assert client.post("/v1/jobs", content=plain, headers={"Content-Type": "application/json"}).status_code == 201


def test_a_sane_request_id_is_kept_and_another_is_replaced(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    assert client.get("/healthz", headers={"X-Request-ID": "a b<"}).headers["X-Request-ID"].startswith("req_")


def test_a_body_over_the_limit_is_refused_declared_or_not(client: TestClient, settings: Settings) -> None:
    large = b"x" * (settings.body_limit_bytes + 1)
    declared = client.post("/v1/jobs", content=large)
    chunked = client.post("/v1/jobs", content=iter([large[:1000], large[1000:]]))
    for response in (declared, chunked):
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_commit_that_fails_is_a_500_and_rings_no_bell(settings: Settings, database: Database) -> None:
    key, doorbell = make_key(database), RecordingDoorbell()
    app = create_app(settings, doorbell=doorbell)

    def fail(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk is full"))

    with TestClient(app, headers=bearer(key), raise_server_exceptions=False) as client:
        assert client.get("/v1/jobs").status_code == 200  # the key's use is recorded now
        event.listen(app.state.services.database.engine, "commit", fail)
        response = client.post("/v1/jobs", json=SPEC)
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "disk is full" not in response.text
    assert doorbell.rung == []


def test_health_needs_no_key_and_readiness_names_what_is_down(client: TestClient, settings: Settings) -> None:
    assert client.get("/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}
    assert client.get("/readyz").json() == {
        "ready": True,
        "parts": {"database": "ok", "storage": "ok", "disk": "ok", "broker": "ok"},
    }


def test_readiness_says_that_the_database_is_not_migrated(tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = Settings(data_dir=tmp_path_factory.mktemp("empty"), upkeep_seconds=3600)
    with TestClient(create_app(empty, doorbell=RecordingDoorbell())) as client:
        response = client.get("/readyz")
    assert response.status_code == 503
    assert "stillhouse migrate" in response.json()["parts"]["database"]


def test_the_description_names_every_answer(client: TestClient) -> None:
    document = openapi(client)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            statuses = set(operation["responses"])
            assert operation.get("summary"), (method, path)
            if path not in OPEN:
                assert {"401", "404", "422", "500"} <= statuses, (method, path)
                assert operation["security"] == [{"HTTPBearer": []}], (method, path)
            for status, answer in operation["responses"].items():
                assert status in ("204", "304", "307") or answer.get("content"), (method, path, status)
    assert document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["examples"]


def test_every_answer_has_an_example_that_its_model_takes(client: TestClient) -> None:
    schemas = openapi(client)["components"]["schemas"]
    answered = {
        reference.rsplit("/", 1)[1]
        for item in openapi(client)["paths"].values()
        for operation in item.values()
        for answer in operation["responses"].values()
        for reference in re.findall(r"#/components/schemas/\w+", json.dumps(answer))
    }
    for name in answered:
        if name.startswith("Page_"):
            continue  # a list of what has its own
        (example,) = schemas[name]["examples"]
        places = (resources, assets, fleet, projects, health)
        model = next(found for place in places if (found := getattr(place, name, None)))
        model.model_validate_json(json.dumps(example))
        assert set(example) <= set(schemas[name]["properties"]), name
