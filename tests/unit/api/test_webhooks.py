from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api import Api

URL = "/v1/webhooks/endpoints"
BODY = {"url": "https://8.8.8.8/hooks", "enabled_events": ["wallet.recharged"]}


def create(api: Api, **changes: Any) -> Any:
    answer = api.post(URL, {**BODY, **changes})
    assert answer.status == 201, answer.text
    return answer.json


def test_secret_is_shown_once(api: Api) -> None:
    made = create(api)
    assert made["secret"].startswith("whsec_")
    assert "secret" not in api.get(f"{URL}/{made['id']}").json
    [listed] = api.get(URL).json["endpoints"]
    assert "secret" not in listed
    assert listed["enabled"] is True


@pytest.mark.parametrize(
    "url",
    ["http://8.8.8.8/", "https://127.0.0.2:22/", "https://169.254.169.254/", "ftp://8.8.8.8/"],
)
def test_only_public_https_is_accepted(api: Api, url: str) -> None:
    answer = api.post(URL, {**BODY, "url": url})
    assert (answer.status, answer.code) == (400, "invalid_webhook_endpoint")


def test_unknown_event_names_the_known_ones(api: Api) -> None:
    answer = api.post(URL, {**BODY, "enabled_events": ["wallet.emptied"]})
    assert (answer.status, answer.code) == (400, "unknown_webhook_event")
    assert "wallet.recharged" in answer.text


def test_endpoint_is_changed_rotated_tested_replayed_and_deleted(api: Api) -> None:
    made = create(api)
    path = f"{URL}/{made['id']}"
    assert api.patch(path, {"enabled": False}).json["disabled_reason"] == "requested"
    assert api.post(f"{path}/test").status == 409
    assert api.patch(path, {"enabled": True, "enabled_events": ["*"]}).json["enabled"] is True
    stale = api.patch(path, {"ordered": True}, headers={"if-match": '"1"'})
    assert stale.status == 412
    rotated = api.post(f"{path}/rotate", {"overlap_seconds": 60})
    assert rotated.json["secret"] != made["secret"]
    delivery = api.post(f"{path}/test").json
    assert (delivery["status"], delivery["event_type"]) == ("pending", "webhook.test")
    page = api.get(f"{path}/deliveries").json
    assert [each["id"] for each in page["deliveries"]] == [delivery["id"]]
    assert page["next_cursor"] is None
    assert api.post(f"{path}/deliveries/{delivery['id']}/replay").status == 202
    since = {"since": "2026-01-01T00:00:00Z"}
    assert api.post(f"{path}/replay", since).json == {"count": 0}
    assert api.delete(path).status == 204
    assert api.get(path).status == 404


def test_cursor_walks_all_deliveries(api: Api) -> None:
    path = f"{URL}/{create(api)['id']}"
    made = [api.post(f"{path}/test").json["id"] for _ in range(5)]
    found: list[str] = []
    cursor = ""
    while True:
        page = api.get(f"{path}/deliveries?limit=2{cursor}").json
        found += [each["id"] for each in page["deliveries"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(found) == sorted(made)
    assert api.get(f"{path}/deliveries?cursor=x").code == "invalid_cursor"


def test_both_faces_have_the_same_operations(api: Api) -> None:
    made = api.post("/api/webhooks/endpoints", BODY).json
    assert api.get(f"{URL}/{made['id']}").json["url"] == BODY["url"]
    listed = api.get("/api/webhooks/event-types").json["event_types"]
    assert {"name": "invoice.paid", "description": "An invoice was paid."} in listed
    assert api.get("/v1/webhooks/event-types").json["event_types"] == listed
    assert api.delete(f"/api/webhooks/endpoints/{made['id']}").status == 204


def test_delivery_is_read_with_its_body_and_its_attempts(api: Api) -> None:
    path = f"{URL}/{create(api)['id']}"
    delivery = api.post(f"{path}/test").json
    read = api.get(f"{path}/deliveries/{delivery['id']}").json
    assert read["body"]["type"] == "webhook.test"
    assert (read["status"], read["attempts"], read["history"]) == ("pending", 0, [])
    missing = api.get(f"{path}/deliveries/whd_1")
    assert (missing.status, missing.code) == (404, "not_found")


def test_deliveries_are_filtered_by_state_and_event(api: Api) -> None:
    path = f"{URL}/{create(api)['id']}"
    api.post(f"{path}/test")

    def count(query: str) -> int:
        return len(api.get(f"{path}/deliveries?{query}").json["deliveries"])

    assert count("status=pending&event_type=webhook.test") == 1
    assert count("status=exhausted") == 0
    assert count("event_type=invoice.paid") == 0
