from __future__ import annotations

from typing import Any

from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from tests.fakes.api import OPERATOR_KEY, Answer, Api
from tests.fakes.waiting import wait_until

PATH = "/api/platform/rotations"


def ask(api: Api, method: str, path: str = PATH, body: Any = None) -> Answer:
    return api.request(method, path, body, key=OPERATOR_KEY, organization="")


def add_credential(api: Api, name: str, organization_id: str | None) -> str:
    request = CredentialRequest(
        organization_id=organization_id,
        integration="openai",
        secret="sk-proj-0123456789abcdefWXYZ",
        name=name,
    )
    with api.application.database.transaction() as connection:
        return api.application.credentials.add(connection, request, by=SYSTEM).id


def last(api: Api) -> Any:
    return ask(api, "GET").json["rotations"][0]


def test_organization_keys_are_rotated_and_reported(api: Api) -> None:
    for number in range(3):
        add_credential(api, str(number), api.organization_id)
    before = ask(api, "GET", "/api/platform/vault").json
    started = ask(api, "POST", body={"scope": "all"})
    assert started.status == 202, started.text
    assert (started.json["kind"], started.json["state"]) == ("keys", "running")
    wait_until(lambda: last(api)["state"] == "done", 20.0)
    assert last(api)["done"] == last(api)["total"]
    after = ask(api, "GET", "/api/platform/vault").json
    assert {key["id"] for key in before["keys"]}.isdisjoint(key["id"] for key in after["keys"])
    assert sum(key["rows"] for key in after["keys"]) == sum(key["rows"] for key in before["keys"])
    assert after["unreadable"] == []
    assert [key["state"] for key in after["master_keys"]] == ["active"]
    assert {"vault.rotation_started", "vault.rotation_ended"} <= {
        event for event, _ in api.audited()
    }


def test_unreadable_row_is_reported_with_its_reason(api: Api) -> None:
    broken = add_credential(api, "broken", api.organization_id)
    with api.application.database.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE credentials SET sealed=x'00' WHERE id='{broken}'")
    ask(api, "POST", body={"scope": "platform"})
    wait_until(lambda: last(api)["state"] == "done", 20.0)
    with api.application.database.reading() as connection:
        api.application.load(connection, frozenset({"credentials"}))
    [fault] = ask(api, "GET", "/api/platform/vault").json["unreadable"]
    assert (fault["id"], fault["name"], fault["table"]) == (broken, "broken", "credentials")


def test_unknown_organization_and_empty_scope_are_refused(api: Api) -> None:
    assert ask(api, "POST", body={"scope": "org_nobody"}).status == 404
    assert ask(api, "POST", body={"scope": ""}).status == 422
    assert ask(api, "GET").json["rotations"] == []


def test_keys_of_an_organization_do_not_reach_the_vault(api: Api) -> None:
    assert api.get("/api/platform/vault").status in (403, 404)
    assert api.post(PATH, {"scope": "all"}).status in (403, 404)
