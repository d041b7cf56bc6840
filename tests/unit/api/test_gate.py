from __future__ import annotations

import pytest

from tests.fakes.api import NOBODY, Api
from tests.fakes.spoiled_keys import spoil_key

PROJECTS = "/api/projects"


def test_request_without_authentication_is_rejected(shared_api: Api) -> None:
    for key in (NOBODY, "hg_admin_nonsense", "sk-something", spoil_key(shared_api.key)):
        answer = shared_api.get(PROJECTS, key=key)
        assert answer.status == 401, key
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_application_is_told_that_its_token_is_not_for_the_platform(shared_api: Api) -> None:
    answer = shared_api.get(PROJECTS, key="hg_oat_" + "x" * 43)
    assert answer.status == 401
    said = answer.json["detail"]
    assert "runs actions and tools only. Sign in," in said
    # Nothing of it is taken for a secret and masked.
    assert said.endswith("(hg_admin_...) in the header Authorization.")


def test_key_is_read_from_three_headers_only(shared_api: Api) -> None:
    key = shared_api.key
    for name in ("x-api-key", "api-key"):
        assert shared_api.get(PROJECTS, key=NOBODY, headers={name: key}).status == 200
    for name in ("x-authorization", "authorisation", "proxy-authorization"):
        sent = {name: f"Bearer {key}"}
        assert shared_api.get(PROJECTS, key=NOBODY, headers=sent).status == 401


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic Zm9vOmJhcg==", "Bearer sk-placeholder", "Bearer a.b.c"],
)
def test_foreign_authorization_header_does_not_hide_a_key(
    shared_api: Api, authorization: str
) -> None:
    headers = {"authorization": authorization, "x-api-key": shared_api.key}
    assert shared_api.get(PROJECTS, key=NOBODY, headers=headers).status == 200


def test_invalid_key_does_not_hide_a_valid_one(shared_api: Api) -> None:
    for bad in ("sk-placeholder", "hg_admin_nonsense", spoil_key(shared_api.key), " "):
        headers = {"x-api-key": bad, "api-key": bad}
        assert shared_api.get(PROJECTS, headers=headers).status == 200
        headers = {"authorization": f"Bearer {bad}", "api-key": shared_api.key}
        assert shared_api.get(PROJECTS, key=NOBODY, headers=headers).status == 200


def test_two_different_valid_keys_are_refused_with_a_message(shared_api: Api) -> None:
    answer = shared_api.get(PROJECTS, headers={"x-api-key": shared_api.other.key})
    assert (answer.status, answer.json["code"]) == (401, "conflicting_api_keys")
    assert "two different keys" in answer.json["detail"]
    assert shared_api.get(PROJECTS, headers={"x-api-key": shared_api.key}).status == 200


def test_inference_key_manages_nothing(shared_api: Api) -> None:
    answer = shared_api.get(PROJECTS, key=shared_api.own.live_key)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")


def test_organization_is_named_by_the_header(shared_api: Api) -> None:
    missing = shared_api.get(PROJECTS, organization="")
    assert (missing.status, missing.json["code"]) == (400, "organization_header_missing")
    foreign = shared_api.get(PROJECTS, organization=shared_api.other.organization_id)
    unknown = shared_api.get(PROJECTS, organization="org_unknown")
    assert (foreign.status, unknown.status) == (403, 403)
    assert foreign.text == unknown.text


@pytest.mark.parametrize("path", ["/api/nothing", "/api/projects/", "/api/projects/a/b"])
def test_unknown_path_is_404_in_the_format_of_the_api(shared_api: Api, path: str) -> None:
    answer = shared_api.get(path)
    assert (answer.status, answer.json) == (404, {"detail": "Not found.", "code": "not_found"})


def test_other_methods_are_405_and_named(shared_api: Api) -> None:
    answer = shared_api.put(PROJECTS, {})
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= {each.strip() for each in answer.headers["allow"].split(",")}
