from __future__ import annotations

from typing import Any

import pytest

from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from tests.fakes.api import OPERATOR_KEY, Answer, Api

PATH = "/api/platform/managed-models"
MINI, NANO = "gpt-5.4-mini", "gpt-5.4-nano"


def ask(api: Api, method: str, path: str = PATH, body: Any = None, **more: Any) -> Answer:
    return api.request(method, path, body, key=OPERATOR_KEY, organization="", **more)


def attach(api: Api, model_id: str = MINI, **more: Any) -> Any:
    answer = ask(api, "POST", body={"model_id": model_id, "credential": "platform", **more})
    assert answer.status == 201, answer.text
    return answer.json


def test_managed_model_is_attached_changed_and_detached(api: Api) -> None:
    made = attach(api, display_name="Mini")
    assert (made["display_name"], made["wire_id"], made["version"]) == ("Mini", None, 1)
    path = f"{PATH}/{made['id']}"
    assert ask(api, "GET", path).json == made
    assert ask(api, "GET", f"{PATH}/{MINI}").json == made
    change = {"wire_id": "deploy-1", "is_default": True}
    changed = ask(api, "PATCH", path, change, headers={"if-match": '"1"'})
    assert (changed.json["wire_id"], changed.headers["etag"]) == ("deploy-1", '"2"')
    assert ask(api, "PATCH", path, {"wire_id": None}).json["wire_id"] is None
    replaced = ask(api, "PATCH", path, {"deprecated": True, "replacement_id": NANO})
    assert replaced.json["replacement_id"] == NANO
    assert api.application.managed_routes.find(MINI).model_id == NANO  # type: ignore[union-attr]
    assert ask(api, "DELETE", f"{PATH}/{NANO}").json["code"] == "managed_model_conflict"
    assert ask(api, "DELETE", path).status == 204
    assert ask(api, "GET", path).status == 404
    assert [action for action, of in api.audited() if of == made["id"]] == [
        "managed_model.attached",
        *["managed_model.changed"] * 3,
        "managed_model.detached",
    ]


def test_models_are_listed_by_their_ids_a_page_at_a_time(api: Api) -> None:
    attach(api)
    attach(api, "gpt-4o")
    page = ask(api, "GET", f"{PATH}?limit=2&offset=1").json
    assert [each["model_id"] for each in page.pop("managed_models")] == [MINI, NANO]
    assert page == {"total": 3, "limit": 2, "offset": 1}


def test_outdated_version_changes_nothing(api: Api) -> None:
    path = f"{PATH}/{NANO}"
    ask(api, "PATCH", path, {"enabled": False})
    for method, body in (("PATCH", {"enabled": True}), ("DELETE", None)):
        refused = ask(api, method, path, body, headers={"if-match": '"1"'})
        assert (refused.status, refused.json["code"]) == (412, "version_outdated")
    assert ask(api, "GET", path).json["enabled"] is False


def test_model_that_is_sold_already_is_a_conflict(shared_api: Api) -> None:
    body = {"model_id": NANO, "credential": "platform"}
    refused = ask(shared_api, "POST", body=body)
    assert (refused.status, refused.json["code"]) == (409, "managed_model_conflict")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_id": "no-such-model"}, "model_id"),
        ({"model_id": "a b"}, "model_id"),
        ({"model_id": ""}, "model_id"),
        ({"credential": "nothing"}, "credential"),
        ({"credential": 5}, "credential"),
        ({"wire_id": "a\nb"}, "wire_id"),
        ({"display_name": "a\nb"}, "display_name"),
        ({"deprecated": True}, "deprecated"),
    ],
)
def test_invalid_field_is_named(shared_api: Api, change: dict[str, Any], field: str) -> None:
    body = {"model_id": MINI, "credential": "platform", **change}
    assert ask(shared_api, "POST", body=body).fields_at_fault == [["body", field]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"replacement_id": MINI}, "replacement_id"),
        ({"deprecated": True, "replacement_id": "none"}, "replacement_id"),
        ({"deprecated": True, "replacement_id": NANO}, "replacement_id"),
        ({"credential": "nothing"}, "credential"),
        ({"model_id": "x"}, "model_id"),
        ({"enabled": None}, "enabled"),
    ],
)
def test_invalid_change_is_named(shared_api: Api, change: dict[str, Any], field: str) -> None:
    answer = ask(shared_api, "PATCH", f"{PATH}/{NANO}", change)
    assert answer.fields_at_fault == [["body", field]]


def test_credential_of_an_organization_cannot_serve_a_managed_model(api: Api) -> None:
    request = CredentialRequest(
        organization_id=api.organization_id,
        integration="openai",
        secret="sk-own-0123456789abcdefghijklmnop",
        name="own",
    )
    with api.application.database.transaction() as connection:
        own = api.application.credentials.add(connection, request, by=SYSTEM)
    for credential in ("own", own.id):
        refused = ask(api, "POST", body={"model_id": MINI, "credential": credential})
        assert refused.fields_at_fault == [["body", "credential"]]
