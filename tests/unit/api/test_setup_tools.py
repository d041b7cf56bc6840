"""The tools that set up integrations, as agents call them, over the services of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from headgate.connectors.model.caller import FULL, READ, ToolCaller, make_key_caller
from headgate.connectors.model.errors import describe_error
from headgate.connectors.model.policy import find_denial
from headgate.connectors.model.tool import ToolCall, ToolResult
from headgate.connectors.service.actions import ActionPorts, ActionService, define_tool
from headgate.connectors.service.setup_tools import TOOLS, SetupTools
from headgate.kit.errors import HeadgateError
from headgate.kit.tokenizer import Tokenizer
from headgate.main import data_plane, platform
from headgate.oauth.model.scope import close_scopes
from headgate.relay.ports import Grant
from tests.fakes.api import TOPICS, Api, clear_platform
from tests.fakes.openai_actions import FakeHandles, FakeModelCaller, NoHttp

KEY = "sk-proj-0123456789abcdefghijWXYZ"
SECRETS = {"openai_api_key": KEY}
MODELS = {"object": "list", "data": [{"id": "gpt-5.4", "object": "model"}]}
DEFINED = {tool.name: tool for tool in TOOLS}


class Agent:
    """Call the tools of an organization whose provider answers every model call with its models."""

    def __init__(self, api: Api) -> None:
        application = api.application

        def reload() -> None:
            with application.database.reading() as connection:
                application.load(connection, TOPICS)

        services = platform.build_services(
            application,
            api.writer,
            reload=reload,
            client=api.client,
            settlement=data_plane.build_ledger(application.settings, application, api.writer),
            observe=lambda _receipt, _microseconds: None,
        )
        self.models = FakeModelCaller(MODELS)
        self.actions = ActionService(
            services.actions.registry,
            application.credential_resolver,
            ActionPorts(self.models, NoHttp(), FakeHandles()),
            application.rate_limiter,
        )
        self._tools = SetupTools(services.directory, services.setup, self.actions)
        self._api = api
        grant = application.key_index.find(api.own.live_key.encode())
        self.key = make_key_caller(grant)
        self.owner = msgspec.structs.replace(self.key, scopes=frozenset(close_scopes((FULL,))))

    def call(self, name: str, /, by: ToolCaller, **arguments: Any) -> ToolResult:
        call = ToolCall(
            name=name,
            arguments=arguments,
            caller=by,
            request_id="req_1",
            idempotency_key="made-by-the-server",
        )
        return self._api.portal.call(self._tools.call_tool, DEFINED[name], call)

    def list_tools(self) -> list[str]:
        tools = self._api.portal.call(self.actions.list_tools, self.key)
        return [each.name for each in tools]

    def run_directly(self, service: str, endpoint: str, given: dict[str, Any]) -> ToolResult:
        tool = define_tool(self.actions.find(service, endpoint))
        call = ToolCall(name=tool.name, arguments=given, caller=self.key, request_id="req_2")
        return self._api.portal.call(self.actions.call_tool, tool, call)

    def read(self, name: str, /, by: ToolCaller, **arguments: Any) -> Mapping[str, Any]:
        result = self.call(name, by, **arguments)
        assert result.error is None
        assert result.structured is not None
        return result.structured

    def fail(self, name: str, /, by: ToolCaller, **arguments: Any) -> HeadgateError:
        with pytest.raises(HeadgateError) as caught:
            self.call(name, by, **arguments)
        return caught.value


@pytest.fixture
def agent(api: Api) -> Agent:
    clear_platform(api)
    api.read(api.application.credential_resolver.load)
    return Agent(api)


def list_names(overviews: Mapping[str, Any], kind: str) -> list[str]:
    return [each["name"] for each in overviews[kind]]


def test_agent_sets_up_an_integration_runs_it_and_removes_it(agent: Agent) -> None:
    assert "openai" in list_names(agent.read("list_integrations", agent.owner), "available")
    result = agent.read("setup_integration", agent.owner, service="openai", secrets=SECRETS)
    assert (result["service"], result["is_new"]) == ("openai", True)
    assert "openai" in list_names(agent.read("list_integrations", agent.owner), "configured")
    tools = agent.list_tools()
    assert "openai_chat_completion" in tools
    ran = agent.read(
        "execute_integration", agent.key, service="openai", endpoint="list-models", input={}
    )
    assert "gpt-5.4" in repr(ran)
    removed = agent.read("remove_integration", agent.owner, service="openai")
    assert removed["removed_secrets"] == ["openai_api_key"]
    assert "openai_chat_completion" not in agent.list_tools()


def test_execution_answers_as_the_tool_of_the_endpoint_itself(agent: Agent) -> None:
    agent.read("setup_integration", agent.owner, service="openai", secrets=SECRETS)
    through = agent.call(
        "execute_integration", agent.key, service="openai", endpoint="list-models", input={}
    )
    assert through == agent.run_directly("openai", "list-models", {})
    given = {"input": "a", "model": "none"}
    refused = agent.fail(
        "execute_integration",
        agent.key,
        service="openai",
        endpoint="create-embedding",
        input=given,
    )
    assert describe_error(refused).field == "model"


def test_call_of_what_is_not_configured_is_told_to_set_it_up(agent: Agent) -> None:
    error = describe_error(
        agent.fail(
            "execute_integration", agent.key, service="openai", endpoint="list-models", input={}
        )
    )
    assert error.code == "integration_not_configured"
    assert error.recovery is not None
    assert "setup_integration" in error.recovery
    assert agent.models.sent == []


def test_unknown_endpoint_is_told_the_valid_ones(agent: Agent) -> None:
    error = describe_error(
        agent.fail("execute_integration", agent.key, service="openai", endpoint="none", input={})
    )
    assert error.code == "endpoint_not_found"
    assert "chat-completion" in error.message


def test_secrets_that_are_missing_are_named_by_the_schema(agent: Agent) -> None:
    error = describe_error(
        agent.fail("setup_integration", agent.owner, service="openai", secrets={})
    )
    assert (error.code, error.field) == ("invalid_input", "secrets.openai_api_key")
    schema = agent.read("get_integration_schema", agent.owner, service="openai")
    assert schema["credentials"][0]["name"] == "openai_api_key"
    one = agent.read(
        "get_integration_schema", agent.owner, service="openai", endpoint="chat-completion"
    )
    assert [each["tool"] for each in one["endpoints"]] == ["openai_chat_completion"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("setup_integration", {"service": "openai", "secrets": SECRETS}),
        ("remove_integration", {"service": "openai"}),
    ],
)
def test_only_who_has_full_access_changes_integrations(
    agent: Agent, name: str, arguments: dict[str, Any]
) -> None:
    reader = msgspec.structs.replace(agent.key, scopes=frozenset({READ}))
    for caller in (agent.key, reader):
        assert agent.fail(name, caller, **arguments).code == "tool_forbidden"
        assert find_denial(caller, DEFINED[name]) is not None
    asked = {"service": "openai", "endpoint": "chat-completion"}
    assert agent.fail("get_integration_schema", reader, **asked).code == "tool_forbidden"
    assert find_denial(reader, DEFINED["execute_integration"]) is not None
    assert find_denial(reader, DEFINED["list_integrations"]) is None


def test_key_of_some_projects_sets_nothing_up_for_all(agent: Agent) -> None:
    grant = Grant("key_1", agent.key.organization_id, "", management=True, projects=("proj_1",))
    caller = make_key_caller(grant)
    error = agent.fail("setup_integration", caller, service="openai", secrets=SECRETS)
    assert error.code == "tool_forbidden"


def test_tools_are_few_tokens() -> None:
    shown = [
        {"name": each.name, "description": each.description, "inputSchema": each.input_schema}
        for each in TOOLS
    ]
    assert Tokenizer().count(msgspec.json.encode(shown).decode()) <= 350
