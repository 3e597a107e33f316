"""An operator sees and limits every project; any other key its own, and only to look at."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from app.config import Settings
from app.db import Database
from tests.app.conftest import bearer, make_key, submit
from tests.app.running import claimed

NONE = {"running": None, "waiting": None, "storage_bytes": None}


def project(client: TestClient, name: str = "default", **headers: str) -> dict[str, Any]:
    rows = client.get("/v1/projects", headers=headers).json()["data"]
    return next(row for row in rows if row["name"] == name)


def test_a_project_shows_its_limits_and_what_it_has_of_them(
    client: TestClient, database: Database, settings: Settings
) -> None:
    for _ in range(3):
        submit(client)
    claimed(database)
    client.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1000"})
    found = project(client)
    assert client.get(f"/v1/projects/{found['id']}").json() == found
    assert found["limits"] == NONE
    assert found["in_force"] == NONE | {"storage_bytes": settings.project_quota_bytes}
    assert found["usage"] == {"running": 1, "waiting": 2, "storage_bytes": 1000}


def test_limits_that_are_set_are_in_force_at_once_and_may_be_taken_back(client: TestClient) -> None:
    path = f"/v1/projects/{project(client)['id']}"
    answer = client.patch(path, json={"limits": {"waiting": 1, "storage_bytes": 100}})
    assert (answer.status_code, answer.json()["limits"]) == (200, NONE | {"waiting": 1, "storage_bytes": 100})
    submit(client)
    assert client.post("/v1/jobs", json={"name": "x"} | client.get("/v1/jobs").json()["data"][0]["spec"]).json()[
        "code"
    ] == ("too_many_jobs")
    begun = {"Tus-Resumable": "1.0.0", "Upload-Length": "101"}
    refused = client.post("/v1/uploads", headers=begun)
    assert (refused.status_code, refused.json()["code"]) == (413, "quota_exceeded")
    later = client.patch(path, json={"limits": {"waiting": None}}).json()["limits"]
    assert later == NONE | {"storage_bytes": 100}, "a limit that is not named stays"
    submit(client)
    client.patch(path, json={"limits": {"storage_bytes": None}})
    assert client.post("/v1/uploads", headers=begun).status_code == 201


def test_what_cannot_be_a_limit_is_refused_with_a_pointer(client: TestClient) -> None:
    path = f"/v1/projects/{project(client)['id']}"
    for body, pointer in (
        ({"limits": {"running": -1}}, "/limits/running"),
        ({"limits": {"running": 2**31}}, "/limits/running"),
        ({"limits": {"storage_bytes": "1GB"}}, "/limits/storage_bytes"),
        ({"limits": {"runing": 1}}, "/limits/runing"),
        ({"name": "x", "limits": {}}, "/name"),
        ({}, "/limits"),
    ):
        refused = client.patch(path, json=body)
        assert refused.status_code == 422, body
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert client.patch("/v1/projects/prj_nothing", json={"limits": {}}).status_code == 404
    assert project(client)["limits"] == NONE


def test_another_projects_admin_sees_its_own_and_sets_nothing(client: TestClient, stranger: dict[str, str]) -> None:
    own = client.get("/v1/projects", headers=stranger).json()["data"]
    assert [row["name"] for row in own] == ["elsewhere"]
    assert len(client.get("/v1/projects").json()["data"]) == 2
    others = f"/v1/projects/{project(client)['id']}"
    assert client.get(others, headers=stranger).status_code == 404
    assert client.patch(others, json={"limits": {"running": 1}}, headers=stranger).status_code == 404
    refused = client.patch(f"/v1/projects/{own[0]['id']}", json={"limits": {"running": 9}}, headers=stranger)
    assert (refused.status_code, "operator" in refused.json()["detail"]) == (403, True)
    limited = client.patch(f"/v1/projects/{own[0]['id']}", json={"limits": {"running": 9}})
    assert limited.json()["limits"]["running"] == 9


def test_a_key_that_only_reads_sees_its_project_and_sets_nothing(client: TestClient, database: Database) -> None:
    reader = bearer(make_key(database, scopes=("jobs:read",)))
    found = project(client, **reader)
    assert client.patch(f"/v1/projects/{found['id']}", json={"limits": {}}, headers=reader).status_code == 403


def test_an_operator_makes_lists_and_revokes_keys_of_any_project(client: TestClient, stranger: dict[str, str]) -> None:
    made = client.post("/v1/api-keys", json={"project": "research", "scopes": ["jobs:read", "admin"]}).json()
    assert made["project"] == "research"
    assert project(client, "research")["usage"] == {"running": 0, "waiting": 0, "storage_bytes": 0}
    assert client.get("/v1/jobs", headers=bearer(made["key"])).json()["data"] == []
    listed = client.get("/v1/api-keys?project=research").json()["data"]
    assert [row["id"] for row in listed] == [made["id"]]
    assert made["id"] not in client.get("/v1/api-keys").text
    for refused in (
        client.post("/v1/api-keys", json={"project": "default"}, headers=stranger),
        client.get("/v1/api-keys?project=research", headers=stranger),
    ):
        assert (refused.status_code, "operator" in refused.json()["detail"]) == (403, True)
    assert client.post("/v1/api-keys", json={"project": "elsewhere"}, headers=stranger).status_code == 201
    assert client.post("/v1/api-keys", json={"project": "a/b"}).status_code == 422
    assert client.delete(f"/v1/api-keys/{made['id']}").status_code == 204
    assert client.get("/v1/jobs", headers=bearer(made["key"])).status_code == 401
