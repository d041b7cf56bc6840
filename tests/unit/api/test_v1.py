"""Operations of the platform below `/v1`: who may call them, and OpenAI's shape of errors."""

from __future__ import annotations

from collections.abc import Generator

import msgspec
import pytest
from structlog.testing import capture_logs

from headgate.accounts.model import AccountNotFoundError, Role
from headgate.api.access import ANYONE, organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes import ALL
from headgate.api.schemas.fields import Empty
from headgate.audit.model import AuditEvent
from headgate.llm.routes import PLATFORM_SEGMENTS
from tests.fakes.api import NOBODY, Api, Props, running_api
from tests.fakes.people import add_person, open_browser

OWN = "/v1/usage"
SHARED = "/api/things"


class ThingQuery(msgspec.Struct, forbid_unknown_fields=True):
    limit: int = 10


class Things(msgspec.Struct):
    """Things of an organization."""

    organization_id: str
    key_id: str | None
    limit: int


class ThingCreate(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Thing(msgspec.Struct):
    """One thing."""

    id: str
    version: int = 1


OPERATIONS = Operations("Things", "Operations of this test.")


@OPERATIONS.get(OWN, access=organization("usage:read", own_key=True), summary="List things")
@OPERATIONS.get(SHARED, access=organization("usage:read"), summary="List things")
async def list_things(context: RequestContext[ThingQuery, Empty]) -> Things:
    """Return things."""
    return Things(context.organization_id, context.own_key_id, context.query.limit)


@OPERATIONS.post(
    "/v1/webhooks/endpoints",
    access=organization("webhooks:write"),
    status=201,
    summary="Create a thing",
)
async def create_thing(context: RequestContext[Empty, ThingCreate]) -> Thing:
    """Create one."""
    services, body = context.services, context.body

    def create(connection: object) -> Thing:
        event = AuditEvent("thing.created", context.organization_id, body.name, {})
        services.audit.record(connection, context.actor, event)  # type: ignore[arg-type]
        return Thing(services.ids.make("we"))

    return await context.create(create)


@OPERATIONS.get(
    "/v1/usage/things/{key_id}", access=organization("receipts:read"), summary="Read a thing"
)
async def read_thing(context: RequestContext[Empty, Empty]) -> Thing:
    thing_id = context.path["key_id"]
    if thing_id == "fault":
        raise ValueError(thing_id)
    if thing_id == "a b":
        return Thing(thing_id, 7)
    raise AccountNotFoundError(f"There is no {thing_id}.")


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api]:
    props = Props(modules=(*ALL, OPERATIONS))
    with running_api(tmp_path_factory.mktemp("things") / "data", props) as api:
        yield api


def test_management_key_needs_no_header_and_may_name_only_its_own(things: Api) -> None:
    own = things.organization_id
    seen = {"organization_id": own, "key_id": None, "limit": 10}
    assert things.get(OWN, organization="").json == seen
    assert things.get(OWN, organization=own).json == seen
    foreign = things.get(OWN, organization=things.other.organization_id)
    assert (foreign.status, foreign.json["error"]["code"]) == (403, "forbidden")
    assert things.get(SHARED, organization="").status == 400


def test_inference_key_calls_what_is_declared_for_it_and_is_told_apart(things: Api) -> None:
    live = things.own.live_key
    seen = things.get(OWN, key=live, organization="").json
    assert seen["organization_id"] == things.organization_id
    assert live.startswith(f"hg_live_{seen['key_id'].removeprefix('key_')}")
    foreign = things.other.organization_id
    assert things.get(OWN, key=live, organization=foreign).status == 403
    for path in ("/v1/usage/things/x", SHARED):
        assert things.get(path, key=live).status == 403


def test_person_names_the_organization(things: Api) -> None:
    person = add_person(
        things, "v1@example.com", Role.OWNER, organization_id=things.organization_id
    )
    headers = open_browser(things, person).identity
    missing = things.get(OWN, key=NOBODY, organization="", headers=headers)
    assert (missing.status, missing.json["error"]["code"]) == (400, "organization_header_missing")
    assert things.get(OWN, key=NOBODY, headers=headers).json["key_id"] is None


def test_errors_have_the_shape_of_openai(things: Api) -> None:
    answer = things.get(f"{OWN}?limit=x")
    assert answer.status == 400
    assert answer.json["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "limit",
        "code": "invalid",
    }
    assert answer.headers["x-headgate-error-source"] == "gateway"
    assert answer.headers["x-headgate-request-id"] == answer.headers["x-request-id"]
    unknown = things.post("/v1/webhooks/endpoints", {"name": "a", "nam": 1})
    assert (unknown.json["error"]["param"], unknown.json["error"]["code"]) == (
        "nam",
        "unknown_field",
    )
    nobody = things.get(OWN, key=NOBODY)
    assert (nobody.status, nobody.json["error"]["code"]) == (401, "not_authenticated")
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    missing, other = things.get("/v1/usage/things/a"), things.get("/v1/usage/things/b")
    assert (missing.status, missing.json["error"]["message"]) == (404, "Not found.")
    assert missing.text == other.text
    fault = things.get("/v1/usage/things/fault")
    assert (fault.status, fault.json["error"]["type"]) == (500, "server_error")
    assert fault.headers["x-request-id"] in fault.json["error"]["message"]
    assert things.get(f"{SHARED}?limit=x").fields_at_fault == [["query", "limit"]]


def test_other_methods_are_405_with_those_that_are_allowed(things: Api) -> None:
    answer = things.delete(OWN)
    assert (answer.status, answer.json["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]
    head = things.request("HEAD", OWN)
    assert (head.status, head.text) == (200, "")


def test_creation_is_repeated_by_its_idempotency_key(things: Api) -> None:
    path, headers = "/v1/webhooks/endpoints", {"idempotency-key": "once"}
    first = things.post(path, {"name": "a"}, headers=headers)
    again = things.post(path, {"name": "a"}, headers=headers, organization="")
    assert (first.status, again.status, again.json) == (201, 201, first.json)
    assert again.headers["idempotent-replayed"] == "true"
    other = things.post(path, {"name": "b"}, headers=headers)
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_key_reused")


@pytest.mark.parametrize(
    "path",
    [
        *("/v1//usage", "/v1/usage/", "/v1/USAGE", "/v1/%75sage", "/v1%2Fusage", "//v1/usage"),
        *("/V1/usage", "/v1/usage/x", "/v1/webhooks%2Fendpoints", "/v1/webhooks/%65ndpoints"),
        *("/v1/receipts%2Fa%20b", "/v1/receipts/a%2Fb", "/v1/receipts/"),
    ],
)
def test_path_has_one_spelling(things: Api, path: str) -> None:
    answer = things.get(path)
    assert (answer.status, answer.json["error"]["code"]) == (404, "unknown_url")


def test_parameter_may_be_escaped(things: Api) -> None:
    answer = things.get("/v1/usage/things/a%20b")
    assert (answer.status, answer.json["id"], answer.headers["etag"]) == (200, "a b", '"7"')


def test_denied_request_is_recorded_with_its_address(things: Api) -> None:
    with capture_logs() as lines:
        assert things.get(OWN, key="hg_admin_unknown").status == 401
    (line,) = [each for each in lines if each["event"] == "access.refused"]
    assert line["face"] == "/v1"


def test_document_has_both_addresses_of_an_operation(things: Api) -> None:
    document = things.get("/openapi.json").json
    shared, own = (document["paths"][path]["get"] for path in (SHARED, OWN))
    assert (shared["operationId"], own["operationId"]) == ("list_things", "list_things_v1")
    assert own["x-inference-keys"] is True
    assert "422" in shared["responses"]
    assert "422" not in own["responses"]
    schema = own["responses"]["400"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/OpenAiErrorResponse"}
    required = {
        path: next(each["required"] for each in described["parameters"] if each["in"] == "header")
        for path, described in ((SHARED, shared), (OWN, own))
    }
    assert required == {SHARED: True, OWN: False}


def test_inference_keys_are_declared_below_v1_only() -> None:
    operations = Operations("Wrong", "Wrong.")
    access = organization("usage:read", own_key=True)
    with pytest.raises(AssertionError, match="below /v1"):
        operations.get(SHARED, access=access, summary="List things")(list_things)


def test_operation_without_a_policy_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match="access"):
        OPERATIONS.get("/v1/usage/more", summary="List things")
    assert ANYONE.own_key is False


def test_every_declared_path_belongs_to_the_platform() -> None:
    declared = {
        operation.path.split("/")[2]
        for operations in ALL
        for operation in operations.all
        if operation.is_v1
    }
    assert declared <= PLATFORM_SEGMENTS
    assert all(len(each) >= 5 for each in PLATFORM_SEGMENTS), "the edge compares five bytes first"
