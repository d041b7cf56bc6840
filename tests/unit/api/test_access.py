"""The access matrix (A1, A2, A3), generated from the table of operations."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.api.access import Audience
from headgate.api.operation import WORKSPACE, Operation
from headgate.api.routes import ALL
from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from headgate.metering import store as metering
from headgate.vault.model.secret import SecretRequest
from headgate.webhooks.model import WebhookEndpointRequest
from tests.fakes import account_objects, mcp_objects
from tests.fakes.api import Answer, Api, Tenant, running_api
from tests.fakes.callers import Caller, Outcome, list_callers, make_caller
from tests.fakes.priced_receipts import make_priced
from tests.fakes.requests import keep_request

OPERATIONS = [operation for operations in ALL for operation in operations.all]
CHANGES = [operation for operation in OPERATIONS if operation.changes]
PARAMETER = re.compile(r"{(\w+)}")
UNKNOWN_ID = "unknown_0123456789"

SECRET = "sk-proj-0123456789abcdefghijklmn"


def add_resource(api: Api, tenant: Tenant) -> str:
    body = {"name": f"r-{secrets.token_hex(4)}", "model": {"model": "gpt-5.4-mini"}}
    made = api.post("/api/resources", body, key=tenant.key, organization=tenant.organization_id)
    assert made.status == 201, made.text
    return made.json["id"]


def add_asset(api: Api, tenant: Tenant) -> str:
    body = {"content_text": secrets.token_hex(8)}
    made = api.post("/api/assets", body, key=tenant.key, organization=tenant.organization_id)
    assert made.status == 201, made.text
    return made.json["id"]


def add_credential(api: Api, tenant: Tenant) -> str:
    request = CredentialRequest(
        organization_id=tenant.organization_id, integration="openai", secret=SECRET
    )
    with api.application.database.transaction() as connection:
        return api.application.credentials.add(connection, request, by=SYSTEM).id


def add_secret(api: Api, tenant: Tenant) -> str:
    """Of the organization and of its project, by a name that tells whose it is."""
    name = f"key_of_{tenant.organization_id}"
    with api.application.database.transaction() as connection:
        for project_id in (None, tenant.project_id):
            request = SecretRequest(
                organization_id=tenant.organization_id,
                project_id=project_id,
                name=name,
                value=SECRET,
            )
            api.application.secrets.put(connection, request, by=SYSTEM)
    return name


def add_webhook_endpoint(api: Api, tenant: Tenant) -> str:
    request = WebhookEndpointRequest(
        organization_id=tenant.organization_id, url="https://8.8.8.8/", enabled_events=("*",)
    )
    with api.application.database.transaction() as connection:
        issued = api.application.webhooks.create(connection, request, by=SYSTEM)
        api.application.webhooks.send_test(connection, issued.endpoint, by=SYSTEM)
        return issued.endpoint.id


def find_webhook_delivery(api: Api) -> str:
    """Return the delivery of the newest endpoint, which the path names too."""
    query = "SELECT id FROM webhook_deliveries ORDER BY created_at DESC LIMIT 1"
    return api.read(lambda connection: connection.exec_driver_sql(query).scalar_one())


def add_invoice(api: Api, tenant: Tenant) -> str:
    application = api.application
    with application.database.transaction() as connection:
        order = application.orders.create(connection, tenant.organization_id, 500, by=SYSTEM)
        issued = application.invoices.issue_for_payment(connection, order, "Acme", by=SYSTEM)
    return issued.invoice.id


def add_payment(api: Api, tenant: Tenant) -> str:
    with api.application.database.transaction() as connection:
        order = api.application.orders.create(connection, tenant.organization_id, 500, by=SYSTEM)
    return order.id


def add_receipt(api: Api, tenant: Tenant) -> str:
    request_id = api.application.ids.make("req")
    receipt = make_priced(
        request_id=request_id,
        organization_id=tenant.organization_id,
        project_id=tenant.project_id,
        key_id="key_" + tenant.live_key.split("_")[2],
    )
    with api.application.database.transaction() as connection:
        metering.insert(connection, [receipt])
        keep_request(api.application, connection, tenant, id=request_id)
    return request_id


OBJECTS: dict[str, tuple[Callable[[Api], str], Callable[[Api], str]]] = {
    "workspace": (lambda api: api.own.organization_id, lambda api: api.other.organization_id),
    "environment": (lambda api: api.own.project_id, lambda api: api.other.project_id),
    "project_id": (lambda api: api.own.project_id, lambda api: api.other.project_id),
    # The catalog is the same for everybody; what is of another type is no such integration.
    "integration_name": (lambda _: "openai", lambda _: "another"),
    "provider_name": (lambda _: "openai", lambda _: "board"),
    "tool_name": (lambda _: "board", lambda _: "openai"),
    "knowledge_provider_name": (lambda _: "shelf", lambda _: "openai"),
    "key_id": (lambda api: "key_" + api.own.live_key.split("_")[2], lambda api: api.other.key_id),
    "organization_id": (account_objects.make_organization, lambda api: api.other.organization_id),
    "person_id": (account_objects.find_own_member, account_objects.find_foreign_member),
    "session_id": (account_objects.open_own_session, account_objects.open_foreign_session),
    "invitation_id": (account_objects.invite_own, account_objects.invite_foreign),
    "application_id": (
        lambda api: account_objects.connect_application(api, api.own),
        lambda api: account_objects.connect_application(api, api.other),
    ),
    "endpoint_id": (
        lambda api: add_webhook_endpoint(api, api.own),
        lambda api: add_webhook_endpoint(api, api.other),
    ),
    "delivery_id": (find_webhook_delivery, lambda _api: "whd_unknown"),
    "managed_model_id": (lambda _api: "gpt-5.4-nano", lambda _api: "mm_unknown"),
    "resource_id": (
        lambda api: add_resource(api, api.own),
        lambda api: add_resource(api, api.other),
    ),
    "asset_id": (lambda api: add_asset(api, api.own), lambda api: add_asset(api, api.other)),
    "credential_id": (
        lambda api: add_credential(api, api.own),
        lambda api: add_credential(api, api.other),
    ),
    "invoice_id": (
        lambda api: add_invoice(api, api.own),
        lambda api: add_invoice(api, api.other),
    ),
    "payment_id": (
        lambda api: add_payment(api, api.own),
        lambda api: add_payment(api, api.other),
    ),
    "request_id": (
        lambda api: add_receipt(api, api.own),
        lambda api: add_receipt(api, api.other),
    ),
    # Connectors are the same for everybody.
    "connector": (lambda _: "brave_search", lambda _: "another"),
    "action_name": (lambda _: "web-search", lambda _: "another"),
    "data_source": (lambda _: "list-models", lambda _: "another"),
    "mcp_server_id": (
        lambda api: mcp_objects.add_mcp_server(api, api.own),
        lambda api: mcp_objects.add_mcp_server(api, api.other),
    ),
    "mcp_tool_name": (lambda _api: mcp_objects.TOOL, lambda _api: "unknown_tool"),
    "key_name": (lambda api: add_secret(api, api.own), lambda api: add_secret(api, api.other)),
}
"""How each parameter of a path names an object: one of the own organization, and one of the other.

A parameter that is not here fails the test: nobody looked at who may see such an object."""

UNAUDITED: dict[str, str] = {
    "revoke_previous_token": "this key was never rotated",
    "delete_mcp_server_token": "there is no token",
    "dry_run_resource": "it only tells what a call would do",
}
"""Operations that change nothing that lasts, and why."""

ELSEWHERE = {
    *("start_oidc", "finish_oidc"),
    *("create_top_up", "create_top_up_api", "create_checkout_link", "create_customer_portal"),
    *("take_stripe_notice", "create_refund"),
    "replay_request",
    *("run_connector_action", "execute_integration", "read_integration", "list_data_source"),
}
"""Operations that need another service, which their own tests have."""

BODIES: dict[str, Callable[[Api], dict[str, Any]]] = {
    "sign_in": account_objects.write_sign_in,
    "accept_invitation": account_objects.write_acceptance,
    "approve_mcp_tool": mcp_objects.write_approval,
    "approve_mcp_tools": mcp_objects.write_approvals,
}
"""Bodies that are good only when something was made for them; the others are the examples."""


def set_budgets(api: Api) -> None:
    key_id = "key_" + api.own.live_key.split("_")[2]
    for place in ("organization", f"projects/{api.own.project_id}", f"keys/{key_id}"):
        assert api.put(f"/api/budgets/{place}", {"limit": "1"}).status == 200


def assign_plan(api: Api) -> None:
    with api.application.database.transaction() as connection:
        plans = api.application.plans
        plans.assign(connection, api.organization_id, "pro", overage=True, by=SYSTEM)


def issue_signing_secret(api: Api) -> None:
    key_id = "key_" + api.own.live_key.split("_")[2]
    assert api.post(f"/api/api-keys/{key_id}/signing-secret", {}).status == 200


def set_priority_pools(api: Api) -> None:
    pools = {"pools": [{"name": "chat", "rank": 0}]}
    path = f"/api/projects/{api.own.project_id}/priority-pools"
    assert api.put(path, pools).status == 200


def set_up_integration(api: Api) -> None:
    [operation] = [each for each in OPERATIONS if each.id == "setup_integration"]
    assert api.post(operation.path, operation.example).status == 200


PREPARATIONS: dict[str, Callable[[Api], None]] = {
    "set_overage": assign_plan,
    **dict.fromkeys(("get_signing_secret", "delete_signing_secret"), issue_signing_secret),
    **{
        f"{verb}_{scope}_budget": set_budgets
        for verb in ("get", "remove")
        for scope in ("organization", "project", "key")
    },
    **dict.fromkeys(("get_priority_pools", "remove_priority_pools"), set_priority_pools),
    "remove_integration": set_up_integration,
    "enable_person": account_objects.disable_own_member,
    "resume_organization": account_objects.suspend_organization,
}
"""What has to be so before an operation has something to change."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("access") / "data"
    with running_api(folder, webhook_endpoints_max="1000") as running:
        yield running


@pytest.fixture(scope="module")
def read_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Start a server that preparations change, which nobody else may see."""
    with running_api(tmp_path_factory.mktemp("reads") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def cast(api: Api) -> list[Caller]:
    return list(list_callers(api))


def ask(api: Api, operation: Operation, caller: Caller, path: str) -> Answer:
    """The operation with its own example, as somebody."""
    write = BODIES.get(operation.id, lambda _api: operation.example)
    body = write(api) if operation.body.__struct_fields__ else None
    return api.request(
        operation.method, path, body, key="", organization="", headers=caller.headers
    )


def fill(operation: Operation, name_object: Callable[[str], str]) -> str:
    """The path with its parameters."""
    return PARAMETER.sub(lambda found: name_object(found[1]), operation.path)


def name_own(api: Api, parameter: str) -> str:
    return OBJECTS[parameter][0](api)


def list_wrong_paths(api: Api, operation: Operation) -> list[str]:
    """Each parameter in turn names what is another organization's, and what is nobody's."""
    paths: list[str] = []
    for wrong in PARAMETER.findall(operation.path):
        # The operator's objects are those of every organization.
        everybodys = operation.access.audience is Audience.PLATFORM
        foreign = [] if everybodys else [OBJECTS[wrong][1](api)]
        for wrong_id in (*foreign, UNKNOWN_ID):
            ids = {name: name_own(api, name) for name in PARAMETER.findall(operation.path)}
            paths.append(fill(operation, {**ids, wrong: wrong_id}.__getitem__))
    return paths


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_caller_gets_the_status_that_the_policy_demands(
    api: Api, cast: list[Caller], operation: Operation
) -> None:
    """Whom an operation lets in and who changes something then, the test below asks for alone."""
    path = fill(operation, lambda parameter: name_own(api, parameter))
    for caller in cast:
        expected = expect(operation, caller)
        if expected is Outcome.ADMITTED and operation.changes:
            continue
        answer = ask(api, operation, caller, path)
        said = f"{caller.name}: {answer.status} {answer.text[:200]}"
        if expected is Outcome.ADMITTED:
            assert answer.status not in (401, 403), said
        else:
            assert answer.status == expected.value, said
        if expected is Outcome.REFUSED:
            assert answer.code == "forbidden", said


@pytest.mark.parametrize("operation", CHANGES, ids=lambda operation: operation.id)
def test_change_succeeds_with_an_audit_entry_and_lets_in_all_who_may(
    tmp_path: Path, cast: list[Caller], operation: Operation
) -> None:
    admitted = [caller.name for caller in cast if expect(operation, caller) is Outcome.ADMITTED]
    assert admitted, f"nobody of the cast may {operation.id}"
    with running_api(tmp_path / "data") as api:
        if operation.id not in ELSEWHERE:
            run_example(api, operation, make_caller(api, admitted[0]))
        for name in admitted:
            path = fill(operation, lambda parameter: name_own(api, parameter))
            answer = ask(api, operation, make_caller(api, name), path)
            assert answer.status not in (401, 403), f"{name}: {answer.status} {answer.text[:200]}"


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if not each.changes and each.id not in ELSEWHERE],
    ids=lambda operation: operation.id,
)
def test_example_of_what_only_reads_succeeds_without_an_audit_entry(
    read_api: Api, operation: Operation
) -> None:
    run_example(read_api, operation, find_admitted(read_api, operation))


def run_example(api: Api, operation: Operation, caller: Caller) -> None:
    """Check that the operation does what its example says, and who learns of it."""
    PREPARATIONS.get(operation.id, lambda _api: None)(api)
    path = fill(operation, lambda name: name_own(api, name))
    before = len(api.audited())
    answer = ask(api, operation, caller, path)
    assert answer.status == operation.status, answer.text
    traces = len(api.audited()) - before
    assert traces > 0 or not operation.changes or operation.id in UNAUDITED
    assert traces == 0 or operation.changes


@pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS if PARAMETER.search(operation.path)],
    ids=lambda operation: operation.id,
)
def test_foreign_and_unknown_objects_look_the_same(api: Api, operation: Operation) -> None:
    caller = find_admitted(api, operation)
    paths = list_wrong_paths(api, operation)
    if operation.access.audience is Audience.TOOLS:
        # It says what there is, to everybody the same: which connectors, or which actions.
        paths = paths[:2]
    before = len(api.audited())
    seen: set[tuple[Any, ...]] = set()
    for path in paths:
        answer = ask(api, operation, caller, path)
        headers = {name: text for name, text in answer.headers.items() if "request-id" not in name}
        seen.add((answer.status, answer.text, tuple(sorted(headers.items()))))
    assert len(seen) == 1, seen
    [(status, _, _)] = seen
    assert status == 404
    assert len(api.audited()) == before


@pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS if operation.body.__struct_fields__],
    ids=lambda operation: operation.id,
)
def test_fields_that_the_server_sets_are_rejected_in_a_body(api: Api, operation: Operation) -> None:
    caller = find_admitted(api, operation)
    path = fill(operation, lambda name: name_own(api, name))
    known = set(operation.body.__struct_encode_fields__)
    server_side = {"id", "organization_id", "created_at", "version", "created_by", "is_operator"}
    if isinstance(operation.answer, type) and issubclass(operation.answer, msgspec.Struct):
        server_side |= set(operation.answer.__struct_encode_fields__)
    before = len(api.audited())
    for name in sorted(server_side - known):
        body = {**operation.example, name: 1}
        answer = api.request(
            operation.method, path, body, key="", organization="", headers=caller.headers
        )
        assert answer.fields_at_fault == [["body", name]]
    assert len(api.audited()) == before


def test_methods_that_are_not_declared_are_405_and_the_others_are_named(api: Api) -> None:
    for path in sorted({operation.path for operation in OPERATIONS}):
        declared = {operation.method for operation in OPERATIONS if operation.path == path}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - declared:
            answer = api.request(method, path.replace("{", "").replace("}", ""))
            assert (answer.status, answer.code) == (405, "method_not_allowed")
            allowed = {each.strip() for each in answer.headers["allow"].split(",")}
            assert allowed - {"HEAD"} == declared


def expect(operation: Operation, caller: Caller) -> Outcome:
    """What the rules say of a caller of an operation."""
    return caller.expects(
        operation.access,
        is_v1=operation.is_v1 or operation.is_vmx,
        names_workspace=WORKSPACE in operation.path,
    )


def find_admitted(api: Api, operation: Operation) -> Caller:
    """The first of the cast that the operation is open to."""
    for caller in list_callers(api):
        if expect(operation, caller) is Outcome.ADMITTED:
            return caller
    raise AssertionError(f"nobody of the cast may {operation.id}")
