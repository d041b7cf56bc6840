"""Plans and the subscription of an organization over the API."""

from __future__ import annotations

from tests.fakes.api import OPERATOR_KEY, Api

PLANS = "/api/platform/plans"
BILLING = "/api/subscriptions/organization-billing"
OVERAGE = "/api/subscriptions/overage"


def test_organization_is_prepaid_until_the_operator_sets_its_plan(api: Api) -> None:
    before = api.get(BILLING).json
    assert (before["plan"], before["max_credit"], before["history"]) == (None, 0, [])
    assert api.put(OVERAGE, {"enabled": True}).json["code"] == "overage_not_allowed"
    place = f"/api/platform/organizations/{api.organization_id}/subscription"
    assert api.put(place, {"plan": "pro"}).status == 403
    made = api.put(place, {"plan": "pro"}, key=OPERATOR_KEY)
    assert (made.status, made.json["plan"], made.json["overage"]) == (200, "pro", False)
    billing = api.get(BILLING).json
    assert (billing["plan"]["name"], billing["overage_allowed"]) == ("Pro", True)
    assert (billing["max_credit"], billing["used_credit"], billing["remaining_credit"]) == (
        20_000,
        0,
        20_000,
    )
    assert billing["next_reset_date"][8:] == "01T00:00:00Z"
    assert api.put(OVERAGE, {"enabled": True}).json["overage"] is True
    assert len(api.get(BILLING).json["history"]) == 2
    assert api.get("/api/subscriptions/organization-plans").json["current_plan"] == "pro"
    assert api.put(place, {"plan": None}, key=OPERATOR_KEY).status == 200
    assert api.get(BILLING).json["plan"] is None


def test_operator_adds_a_version_of_a_plan(api: Api) -> None:
    body = {"id": "pro", "name": "Pro", "credits_per_month": 5, "limits": {"seats": 3}}
    made = api.post(PLANS, body, key=OPERATOR_KEY)
    assert (made.status, made.json["number"]) == (201, 1)
    listed = api.get(PLANS, key=OPERATOR_KEY).json["plans"]
    assert [each["number"] for each in listed if each["id"] == "pro"] == [1, 0]
    current = api.get("/api/subscriptions/organization-plans").json["plans"]
    assert [each["id"] for each in current] == ["free", "pro", "max", "enterprise"]
    assert current[1]["limits"]["seats"] == 3
    assert current[1]["credits_per_month"] == 5


def test_plan_limits_members_projects_and_keys(api: Api) -> None:
    body = {"id": "tiny", "name": "Tiny", "credits_per_month": 5}
    limits = {"seats": 2, "projects": 2, "keys": 3}
    assert api.post(PLANS, body | {"limits": limits}, key=OPERATOR_KEY).status == 201
    place = f"/api/platform/organizations/{api.organization_id}/subscription"
    assert api.put(place, {"plan": "tiny"}, key=OPERATOR_KEY).status == 200
    people = [{"email": f"{number}@example.com"} for number in range(4)]
    names = [{"name": f"Name {number}"} for number in range(4)]
    bodies = {"/api/projects": names, "/api/api-keys": names, "/api/invitations": people}
    for path, each in bodies.items():
        answers = [api.post(path, body) for body in each]
        refused = answers[-1]
        assert (refused.status, refused.json["code"]) == (403, "quota_exceeded"), path
        assert "The plan Tiny allows" in str(refused.json)
        assert any(answer.status == 201 for answer in answers), path
    assert api.put(place, {"plan": None}, key=OPERATOR_KEY).status == 200
    assert api.post("/api/projects", {"name": "One more"}).status == 201


def test_bad_field_of_a_plan_is_named(api: Api) -> None:
    good = {"id": "team", "name": "Team", "credits_per_month": 1}
    for field, value in (("id", "Team"), ("credits_per_month", -1), ("price_per_month", "x")):
        answer = api.post(PLANS, good | {field: value}, key=OPERATOR_KEY)
        assert answer.fields_at_fault == [["body", field]]
    past = api.post(PLANS, good | {"effective_from": "2020-01-01T00:00:00Z"}, key=OPERATOR_KEY)
    assert past.fields_at_fault == [["body", "effective_from"]]
    place = f"/api/platform/organizations/{api.organization_id}/subscription"
    assert api.put(place, {"plan": "unknown"}, key=OPERATOR_KEY).status == 404
    assert api.put(place, {"plan": "free", "overage": True}, key=OPERATOR_KEY).status == 409
