"""The service that runs actions for every face, and the policy of who may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest

from headgate.audit.model import Actor, ActorKind
from headgate.connectors.model.action import Action
from headgate.connectors.model.caller import (
    FULL,
    READ,
    WRITE,
    ToolCaller,
    find_key_scopes,
    make_key_caller,
)
from headgate.connectors.model.errors import (
    ActionTimedOutError,
    CallRefusedError,
    InvalidInputError,
    NotConfiguredError,
    ProviderRefusedError,
    ToolForbiddenError,
    UnknownActionError,
    UnknownIntegrationError,
    describe_error,
)
from headgate.connectors.model.policy import find_denial
from headgate.connectors.model.tool import ANY_ENDPOINT, ToolCall, ToolDefinition
from headgate.connectors.service.actions import ActionPorts, ActionRun, ActionService, define_tool
from headgate.connectors.service.directory import describe_endpoint
from headgate.connectors.service.registry import Connector, ConnectorRegistry, Manifest
from headgate.kit.clock import SystemClock
from headgate.kit.errors import Kind
from headgate.kit.rate_limiter import RateLimitedError, RateLimiter
from headgate.relay.ports import Grant
from tests.fakes.sample_actions import ACTIONS, Given

PARTS = [{"role": "user", "text": "Hi"}]
RUN = ActionRun(request_id="req_1")


class Configured:
    """Say that `org_1` has what it needs."""

    def has_usable(self, organization_id: str, integration: str) -> bool:
        return (organization_id, integration) == ("org_1", "sample")


def make_service(*, needs_credential: bool = True) -> ActionService:
    manifest = Manifest(
        name="sample",
        display_name="Sample",
        description="For tests.",
        integration="sample",
        needs_credential=needs_credential,
    )
    connector = Connector(manifest, "")
    connector.declared = ACTIONS
    registry = ConnectorRegistry({"sample": connector})
    nothing = cast("Any", None)
    ports = ActionPorts(nothing, nothing, nothing)
    return ActionService(registry, Configured(), ports, RateLimiter(SystemClock()))


def make_caller(organization_id: str = "org_1", **limits: Any) -> ToolCaller:
    return make_key_caller(Grant("key_1", organization_id, "proj_1", **limits))


def find(name: str) -> Action:
    return make_service().find("sample", name)


def run(
    name: str,
    given: Mapping[str, Any],
    caller: ToolCaller | None = None,
    *,
    service: ActionService | None = None,
    run: ActionRun = RUN,
) -> Any:
    service = service or make_service()
    action = service.find("sample", name)
    return asyncio.run(service.run(action, caller or make_caller(), given, run))


def call(name: str, arguments: dict[str, Any], **more: Any) -> Any:
    service, caller = make_service(), make_caller()
    tools = {tool.name: tool for tool in asyncio.run(service.list_tools(caller))}
    made = ToolCall(name=name, arguments=arguments, caller=caller, request_id="req_1", **more)
    return asyncio.run(service.call_tool(tools[name], made))


def test_action_gets_its_cleaned_input_and_what_the_caller_chose() -> None:
    output = run("do-everything", {"parts": PARTS, "count": "4", "timeout": 500, "connection": "c"})
    assert isinstance(output, Given)
    assert (output.given["count"], output.seconds, output.connection) == (4, 0.5, "c")


def test_bound_of_the_caller_holds_whatever_the_input_says() -> None:
    bounded = msgspec.structs.replace(RUN, timeout_seconds=2.0)
    assert run("do-everything", {"parts": PARTS}, run=bounded).seconds == 2.0
    assert run("do-everything", {"parts": PARTS, "timeout": 60_000}, run=bounded).seconds == 2.0


def test_action_past_its_time_out_says_how_to_go_on() -> None:
    with pytest.raises(ActionTimedOutError, match="Sleep was not done within 10 ms") as raised:
        run("sleep", {})
    assert "`timeout`" in (raised.value.recovery or "")


def test_unknown_names_tell_what_there_is() -> None:
    service = make_service()
    with pytest.raises(UnknownIntegrationError, match="there are: sample"):
        service.find("other", "ping")
    with pytest.raises(UnknownActionError, match="it has: do-everything, ping"):
        service.find("sample", "pong")


def test_integration_without_a_credential_is_not_offered_and_not_run() -> None:
    stranger = make_caller("org_2")
    service = make_service()
    assert service.list(stranger) == []
    assert asyncio.run(service.list_tools(stranger)) == []
    with pytest.raises(NotConfiguredError) as raised:
        run("ping", {}, stranger)
    assert '`setup_integration` with the service "sample"' in (raised.value.recovery or "")
    open_service = make_service(needs_credential=False)
    assert run("ping", {}, stranger, service=open_service)["key"] == "key_1"


def test_tool_is_described_once_and_an_error_is_made_for_each_call() -> None:
    # A list of tools that were described for each request took longer than all the rest of it.
    for describe in (define_tool, describe_endpoint):
        assert describe(find("ping")) is describe(find("ping"))
    service, stranger = make_service(), make_caller("org_2")
    first, second = (service.explain_absence(stranger, "sample_ping") for _ in range(2))
    assert first is not second


def test_tool_of_an_integration_that_is_not_configured_is_told_apart_from_one_that_is_none() -> (
    None
):
    service, stranger = make_service(), make_caller("org_2")
    for name in ("sample_ping", "sample_do_all"):
        assert isinstance(service.explain_absence(stranger, name), NotConfiguredError)
    assert service.explain_absence(stranger, "sample_pong") is None
    assert service.explain_absence(make_caller(), "sample_ping") is None
    limited = make_caller("org_2", tools=("other_*",))
    assert isinstance(service.explain_absence(limited, "sample_ping"), ToolForbiddenError)


def test_every_kind_of_error_says_what_to_do_next() -> None:
    for kind in Kind:
        error = CallRefusedError("No.", kind=kind, code="no")
        assert (describe_error(error).recovery or "").endswith("."), kind


def test_rate_of_the_key_counts_what_calls_no_model() -> None:
    service, caller = make_service(), make_caller(requests_per_minute=1)
    assert run("ping", {}, caller, service=service)
    with pytest.raises(RateLimitedError):
        run("ping", {}, caller, service=service)
    # The pipeline counts this one.
    with pytest.raises(ActionTimedOutError):
        run("sleep", {}, caller, service=service)


def test_tools_are_the_actions_in_the_words_of_agents() -> None:
    tools = {tool.name: tool for tool in asyncio.run(make_service().list_tools(make_caller()))}
    names = ("do_everything", "ping", "sleep", "paint", "fail")
    assert [*tools] == [f"sample_{name}" for name in names]
    everything, ping, sleep = (tools[f"sample_{name}"] for name in names[:3])
    assert everything.former_names == ("sample_do_all",)
    assert (everything.scope, everything.is_billed) == (WRITE, False)
    assert (ping.scope, ping.is_read_only, ping.is_idempotent) == (READ, True, True)
    assert (sleep.endpoints, sleep.is_billed) == (("chat.completions",), True)
    assert tools["sample_fail"].is_destructive
    assert {tool.source for tool in tools.values()} == {"sample"}


def test_tool_answers_with_the_output_or_what_the_action_makes_of_it() -> None:
    result = call("sample_ping", {}, idempotency_key="k")
    assert result.structured == {"key": "key_1", "idempotency_key": "k"}
    [picture] = call("sample_paint", {}).content
    assert (picture.type, picture.fields) == ("image", {"data": "iVBOR"})


def test_failure_of_the_tool_is_a_result_and_what_the_caller_can_mend_is_raised() -> None:
    error = call("sample_fail", {}).error
    assert (error.type, error.code) == ("upstream", "provider_error")
    assert error.recovery == "Ask for something else."
    assert call("sample_sleep", {}).error.code == "action_timed_out"
    with pytest.raises(InvalidInputError):
        call("sample_do_everything", {"parts": 1})
    with pytest.raises(ProviderRefusedError):
        run("fail", {})


def test_data_source_is_listed_for_who_may_read() -> None:
    service = make_service()
    source = service.registry.find("sample").find_data_source("list-things")
    items = asyncio.run(service.list_choices(source, make_caller(), RUN, connection="mine"))
    assert [(each.label, each.key) for each in items] == [("One", "mine")]
    with pytest.raises(UnknownActionError, match="it has: list-things"):
        service.registry.find("sample").find_data_source("list-nothing")


def make_tool(**given: Any) -> ToolDefinition:
    named: dict[str, Any] = {"name": "sample_x", "title": "", "description": "", **given}
    return ToolDefinition(input_schema={}, **named)


CHAT = ("chat.completions", "responses")


@pytest.mark.parametrize(
    ("limits", "tool", "is_allowed"),
    [
        ({}, make_tool(), True),
        ({}, make_tool(endpoints=CHAT), True),
        ({}, make_tool(scope=FULL), False),
        ({"endpoints": ("responses",)}, make_tool(endpoints=CHAT), True),
        ({"endpoints": ("chat.*",)}, make_tool(endpoints=CHAT), True),
        ({"endpoints": ("embeddings",)}, make_tool(endpoints=CHAT), False),
        ({"endpoints": ("embeddings",)}, make_tool(), True),
        ({"endpoints": ("embeddings",)}, make_tool(endpoints=(ANY_ENDPOINT,)), True),
        ({"tools": ("sample_*",)}, make_tool(), True),
        ({"tools": ("openai_*", "sample_y")}, make_tool(), False),
        ({"management": True}, make_tool(), True),
        ({"management": True}, make_tool(scope=FULL), True),
        ({"management": True}, make_tool(endpoints=CHAT), False),
        ({"management": True, "permissions": ("connectors:read",)}, make_tool(), False),
        (
            {"management": True, "permissions": ("connectors:read",)},
            make_tool(scope=READ, is_read_only=True),
            True,
        ),
        ({"management": True, "permissions": ("keys:write",)}, make_tool(), False),
        ({"management": True, "permissions": ("*:write",)}, make_tool(scope=FULL), True),
    ],
)
def test_policy_decides_by_scopes_endpoints_and_kind_of_key(
    limits: dict[str, Any], tool: ToolDefinition, is_allowed: bool
) -> None:
    denial = find_denial(make_caller(**limits), tool)
    assert (denial is None) is is_allowed
    if denial is not None:
        assert "org_1" not in denial.message


def test_application_has_the_scopes_that_a_person_consented_to() -> None:
    grant = Grant("key_1", "org_1", "proj_1")
    actor = Actor(ActorKind.KEY, "key_1")
    reader = ToolCaller(grant=grant, scopes=frozenset({READ}), actor=actor)
    assert find_denial(reader, define_tool(find("ping"))) is None
    assert find_denial(reader, define_tool(find("paint"))) is not None
    assert [action.name for action in make_service().list(reader)] == ["ping"]
    with pytest.raises(ToolForbiddenError, match="mcp:write"):
        run("paint", {}, reader)
    assert find_key_scopes(grant) == {READ, WRITE}
