"""Who was not let in is written down, never with what they presented, and never without bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from headgate.api.access_denials import AUDIT_ENTRIES_OF_ADDRESS_MAX
from headgate.audit.model import SYSTEM
from headgate.keys.model import InvalidApiKeyError as Wrong
from headgate.main import platform
from tests.fakes.api import NOBODY, Api
from tests.fakes.people import add_person, open_browser
from tests.fakes.waiting import wait_until

ADA = "ada@example.com"
SIGN_IN = "/api/session"
WRONG = "canary-wrong-password-7d1f"
AGENT = {"user-agent": "probe/1"}


def list_refused(api: Api) -> list[dict[str, Any]]:
    """The entries of the audit log that are no changes."""
    columns = "action, organization_id, object_id, actor_kind, actor_name, address, changes"
    query = f"SELECT {columns} FROM audit WHERE action LIKE '%refused%' ORDER BY number"
    rows = api.read(lambda connection: connection.exec_driver_sql(query).mappings().all())
    return [{**row, "changes": json.loads(row["changes"])} for row in rows]


def dump(api: Api) -> str:
    rows = api.read(lambda connection: connection.exec_driver_sql("SELECT * FROM audit").all())
    return repr(rows)


def test_rejected_management_key_is_recorded_in_log_and_audit(
    api: Api,
) -> None:
    public_id = api.own.key_id.removeprefix("key_")
    with api.application.database.transaction() as connection:
        api.application.keys.revoke(connection, api.own.key_id, by=SYSTEM)
    with api.application.database.reading() as connection:
        api.application.key_index.load(connection)
    with capture_logs() as lines:
        assert api.get("/api/projects", headers=AGENT).status == 401
    (line,) = [each for each in lines if each["event"] == "access.refused"]
    assert (line["face"], line["reason"], line["key"], line["address"]) == (
        "/api",
        "invalid_api_key",
        f"hg_admin_{public_id}",
        "203.0.113.9",
    )
    wait_until(lambda: len(list_refused(api)) == 1)
    (entry,) = list_refused(api)
    assert entry["action"] == "key.refused"
    assert (entry["organization_id"], entry["object_id"]) == (api.organization_id, api.own.key_id)
    assert entry["address"] == "203.0.113.9"
    assert entry["changes"] == {"reason": "invalid_api_key", "face": "/api"}
    secret = api.key.rpartition("_")[2]
    assert secret not in repr(lines) + dump(api)


@pytest.mark.parametrize("token", ["hg_admin_canary_7d1f", "hg_live_canary_7d1f", "sk-canary-7d1f"])
def test_token_that_is_not_a_key_is_never_recorded(api: Api, token: str) -> None:
    with capture_logs() as lines:
        assert api.get("/api/projects", key=token).status == 401
    (line,) = [each for each in lines if each["event"] == "access.refused"]
    assert line["key"] is None
    expected = 0 if token.startswith("hg_live") else 1
    wait_until(lambda: len(list_refused(api)) == expected)
    assert "7d1f" not in repr(lines) + dump(api)


def test_failed_sign_in_is_recorded_with_address_and_reason(api: Api) -> None:
    add_person(api, ADA)
    tries = [ADA, "nobody@example.com", f"{WRONG} typed here"]
    with capture_logs() as lines:
        for email in tries:
            body = {"email": email, "password": WRONG}
            assert api.post(SIGN_IN, body, key=NOBODY, organization="").status == 401
    assert [each["reason"] for each in lines if each["event"] == "access.refused"] == [
        "sign_in_refused"
    ] * 3
    wait_until(lambda: len(list_refused(api)) == 3)
    entries = list_refused(api)
    assert {each["action"] for each in entries} == {"person.sign_in_refused"}
    assert {each["address"] for each in entries} == {"203.0.113.9"}
    assert {each["actor_name"] for each in entries} == {ADA, "nobody@example.com", ""}
    assert WRONG not in repr(lines) + dump(api)


def test_wrong_current_password_is_recorded(api: Api) -> None:
    ada = add_person(api, ADA)
    browser = open_browser(api, ada)
    body = {"old_password": WRONG, "new_password": "another sentence, as long"}
    with capture_logs() as lines:
        assert browser.post("/api/session/password", body).status == 422
    assert [each["reason"] for each in lines if each["event"] == "access.refused"] == [
        "wrong_password"
    ]
    wait_until(lambda: len(list_refused(api)) == 1)
    (entry,) = list_refused(api)
    assert (entry["action"], entry["object_id"]) == ("person.sign_in_refused", ada.id)
    assert WRONG not in repr(lines) + dump(api)


def test_flood_fills_neither_log_nor_audit_and_is_counted(api: Api) -> None:
    with capture_logs() as lines:
        for _ in range(40):
            assert api.get("/api/projects", key="hg_admin_canary").status == 401
    assert len(lines) == 10
    wait_until(lambda: len(list_refused(api)) == AUDIT_ENTRIES_OF_ADDRESS_MAX)
    assert len(list_refused(api)) == AUDIT_ENTRIES_OF_ADDRESS_MAX


def test_number_of_omitted_denials_is_recorded_each_minute(api: Api) -> None:
    denials = platform.build_access_denial_log(api.application, api.writer, reload=lambda: None)

    async def flood() -> None:
        for _ in range(30):
            denials.record_model_call(Wrong("No."), b"hg_admin_canary", "198.51.100.7")
        denials.end_window()

    with capture_logs() as lines:
        api.portal.call(flood)
    told = [each for each in lines if each["event"] == "access.refused_more"]
    assert [(each["count"], each["most"]) for each in told] == [(20, {"198.51.100.7": 20})]
    wait_until(lambda: len(list_refused(api)) == 6)
    last = [each for each in list_refused(api) if each["action"] == "access.refused_more"]
    assert [each["changes"]["count"] for each in last] == [25]


def test_allowed_request_is_not_recorded_as_denied(api: Api) -> None:
    with capture_logs() as lines:
        assert api.get("/api/projects").status == 200
        assert api.get("/api/projects", organization="org_unknown").status == 403
    assert [each for each in lines if each["event"] == "access.refused"] == []
    assert list_refused(api) == []
