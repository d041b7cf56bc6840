from __future__ import annotations

import json

import pytest

from tests.fakes.api import Api


def test_project_is_made_read_renamed_and_archived(api: Api) -> None:
    made = api.post("/api/projects", {"name": " Search "})
    assert made.status == 201
    project = made.json
    assert (project["name"], project["version"], project["archived_at"]) == ("Search", 1, None)
    path = f"/api/projects/{project['id']}"
    renamed = api.patch(path, {"name": "Browse"}, headers={"if-match": made.headers["etag"]})
    assert (renamed.json["name"], renamed.headers["etag"]) == ("Browse", '"2"')
    assert api.delete(path).status == 204
    assert api.get(path).json["archived_at"] is not None
    names = [each["name"] for each in api.get("/api/projects").json["projects"]]
    assert names == ["Default"]
    assert api.get("/api/projects?archived=true").json["total"] == 2
    assert [action for action, of in api.audited() if of == project["id"]] == [
        "project.created",
        "project.updated",
        "project.archived",
    ]


def test_outdated_version_changes_nothing(api: Api) -> None:
    path = f"/api/projects/{api.own.project_id}"
    assert api.patch(path, {"name": "One"}, headers={"if-match": '"1"'}).status == 200
    refused = api.patch(path, {"name": "Two"}, headers={"if-match": '"1"'})
    assert (refused.status, refused.json["code"]) == (412, "version_outdated")
    assert api.get(path).json["name"] == "One"
    unread = api.patch(path, {"name": "Two"}, headers={"if-match": "latest"})
    assert unread.fields_at_fault == [["header", "If-Match"]]


def test_repeated_request_makes_one_project(api: Api) -> None:
    sent = {"idempotency-key": "a-key-of-my-own"}
    first = api.post("/api/projects", {"name": "Once"}, headers=sent)
    again = api.post("/api/projects", {"name": "Once"}, headers=sent)
    assert (again.status, again.text) == (201, first.text)
    assert again.headers["idempotent-replayed"] == "true"
    assert api.get("/api/projects").json["total"] == 2
    other = api.post("/api/projects", {"name": "Another"}, headers=sent)
    assert (other.status, other.json["code"]) == (409, "idempotency_key_reused")
    elsewhere = {"key": api.other.key, "organization": api.other.organization_id}
    theirs = api.post("/api/projects", {"name": "Once"}, headers=sent, **elsewhere)
    assert theirs.json["organization_id"] == api.other.organization_id


def test_foreign_and_unknown_projects_are_the_same_404(api: Api) -> None:
    answers = [
        api.request(method, f"/api/projects/{project_id}", body)
        for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None))
        for project_id in (api.other.project_id, "proj_unknown", "%00", "a" * 500)
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers)) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b'{"name": 5}', ["body", "name"]),
        (b"{}", ["body", "name"]),
        (b'{"name": "x", "organization_id": "org_2"}', ["body", "organization_id"]),
        (b'{"name": "x", "version": 9}', ["body", "version"]),
        (b'{"name": ""}', ["body", "name"]),
        (b'{"name": "  "}', ["body", "name"]),
        (b'{"name": "a\\nb"}', ["body", "name"]),
        (b'"name"', ["body"]),
        (b"", ["body"]),
    ],
)
def test_invalid_field_is_named(shared_api: Api, body: bytes, loc: list[str]) -> None:
    assert shared_api.post("/api/projects", content=body).fields_at_fault == [loc]
    assert shared_api.get("/api/projects").json["total"] == 1


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("limit=0", ["query", "limit"]),
        ("limit=501", ["query", "limit"]),
        ("limit=x", ["query", "limit"]),
        ("offset=-1", ["query", "offset"]),
        ("archived=maybe", ["query", "archived"]),
        ("limits=5", ["query", "limits"]),
        ("limit=5&limit=6", ["query", "limit"]),
    ],
)
def test_invalid_query_parameter_is_named(shared_api: Api, query: str, loc: list[str]) -> None:
    assert shared_api.get(f"/api/projects?{query}").fields_at_fault == [loc]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"name": "x"', "application/json", 400),
        (b'{"name": "x", "name": "y"}', "application/json", 400),
        (b'{"name": "' + b"x" * 600_000 + b'"}', "application/json", 413),
        (b"[" * 1000, "application/json", 400),
        (b'{"name": "x"}', "text/plain", 415),
        (b'\xff{"name": "x"}', "application/json", 400),
    ],
)
def test_body_that_cannot_be_read_is_refused(
    shared_api: Api, content: bytes, kind: str, status: int
) -> None:
    answer = shared_api.post("/api/projects", content=content, headers={"content-type": kind})
    assert answer.status == status
    assert set(json.loads(answer.text)) == {"detail", "code"}


def test_if_match_is_rejected_for_an_object_without_versions(api: Api) -> None:
    api.post("/api/secrets", {"key_name": "kept", "value": "a-value-that-is-long-enough"})
    refused = api.delete("/api/secrets/kept", headers={"if-match": '"1"'})
    assert (refused.status, refused.json["code"]) == (412, "version_outdated")
    assert api.delete("/api/secrets/kept", headers={"if-match": "x"}).status == 422
    assert api.get("/api/secrets").json["total"] == 1
