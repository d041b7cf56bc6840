from __future__ import annotations

from tests.fakes.api import Api


def test_log_tells_who_did_what_from_where(api: Api) -> None:
    project = api.post("/api/projects", {"name": "Seen"}, headers={"user-agent": "curl/8"}).json
    [entry] = api.get(f"/api/audit?object_id={project['id']}").json["entries"]
    assert (entry["action"], entry["changes"]) == ("project.created", {"name": "Seen"})
    assert (entry["actor_kind"], entry["actor_id"]) == ("key", api.own.key_id)
    assert (entry["address"], entry["user_agent"]) == ("203.0.113.9", "curl/8")


def test_log_of_an_organization_is_its_own(api: Api) -> None:
    entries = api.get("/api/audit?limit=500").json["entries"]
    theirs = api.get("/api/audit", key=api.other.key, organization=api.other.organization_id).json[
        "entries"
    ]
    assert entries
    assert {each["number"] for each in entries}.isdisjoint(each["number"] for each in theirs)


def test_log_is_searched_by_time(api: Api) -> None:
    assert api.get("/api/audit?until=2020-01-01T00:00:00Z").json["total"] == 0
    assert api.get("/api/audit?since=2020-01-01T00:00:00%2B02:00").json["total"] > 0
    assert api.get("/api/audit?since=0.5").fields_at_fault == [["query", "since"]]
    assert api.get("/api/audit?since=yesterday").fields_at_fault == [["query", "since"]]
    assert api.get("/api/audit?since=2020-01-01T00:00:00").json["total"] > 0
