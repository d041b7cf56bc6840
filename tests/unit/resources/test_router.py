from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from headgate.kit.errors import HeadgateError
from headgate.relay.call import Call
from headgate.relay.capacity_limits import CapacityLimit
from headgate.relay.targets import CallRoute, RouteOptions, Target
from headgate.resources.model.conditions import RoutingBlockedError
from headgate.resources.model.resource import Resource, ResourceConfig, ResourceNotFoundError
from headgate.resources.service import ResourceIndex
from headgate.resources.store import resources as store
from tests.fakes.pipeline import FakeModels, ManualClock, make_call

A = {"model": "model-a", "credential_id": "cred_a", "provider": "openai", "max_retries": 2}
B = {"model": "model-b", "credential_id": "cred_b", "timeout_ms": 500}
CONFIG: dict[str, Any] = {
    "model": A,
    "use_fallback": True,
    "fallback_models": [B],
    "secondary_models": [{"model": "second-0"}, {"model": "second-1"}],
    "default_args": {"temperature": 0.5},
}
TARGET_A = Target("model-a", "cred_a", 2, integration="openai")
TARGET_B = Target("model-b", "cred_b", 0, 0.5, integration="openai")


class FakeNamed:
    def has_named(self, organization_id: str, name: str) -> bool:
        return name in ("acme", "cred_a", "cred_b")


def make_rule(text: str, **more: Any) -> dict[str, Any]:
    condition = {
        "type": "condition",
        "expression": "request.lastMessage.content",
        "comparator": "CONTAINS",
        "value": {"expression": text},
    }
    return {"conditions": [condition], **more}


class Harness:
    def __init__(self) -> None:
        # Without the organizations and projects that a real database wants.
        engine = sa.create_engine("sqlite://")
        self.index = ResourceIndex(FakeNamed(), FakeModels(), ManualClock(), draw=lambda: 0.4)
        with engine.begin() as connection:
            store.RESOURCES.create(connection)
            self._add(connection, "smart", CONFIG)
            self._add(connection, "with/slash", {"model": A})
            limits = [{"period": "day", "requests": 5}]
            limited = {"model": A, "capacity": limits, "enforce_capacity": True}
            self._add(connection, "limited", limited)
            routing = {
                "conditions": [
                    make_rule("bad", action="BLOCK", description="no bad words"),
                    make_rule("half", then={**B, "traffic": 50}),
                    make_rule("third", then={**B, "traffic": 30}),
                ]
            }
            self._add(connection, "ruled", {**CONFIG, "routing": routing})
            self._add(connection, "foreign", {"model": A}, project_id="proj_2")
            self.index.load(connection)
        engine.dispose()

    def _add(
        self, connection: sa.Connection, name: str, config: Any, project_id: str = "proj_1"
    ) -> None:
        resource = Resource(
            id=f"res_{name}",
            organization_id="org_1",
            project_id=project_id,
            name=name,
            description=None,
            config=msgspec.convert(config, ResourceConfig),
            created_at=1.0,
            updated_at=1.0,
        )
        store.insert(connection, resource)

    def route(self, model: str, text: str = "hello", **options: Any) -> CallRoute | None:
        return self.index.route(self.make_call(model, text, **options))

    def make_call(self, model: str, text: str = "hello", **options: Any) -> Call:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        call = make_call(body=msgspec.json.encode(body))
        call.route_options = RouteOptions(**options) if options else None
        return call


@pytest.fixture(scope="module")
def harness() -> Harness:
    return Harness()


def test_name_of_a_resource_leads_to_its_models_in_order(harness: Harness) -> None:
    route = harness.route("smart")
    assert route is not None
    assert (route.resource_id, route.targets) == ("res_smart", (TARGET_A, TARGET_B))
    assert {name: bytes(raw) for name, raw in route.default_arguments.items()} == {
        "temperature": b"0.5"
    }
    assert "proj_1" in harness.index.projects
    assert [name for name, _, _ in harness.index.list_routes("proj_1")] == [
        "limited",
        "ruled",
        "smart",
        "with/slash",
    ]


def test_resource_of_another_project_is_unknown(harness: Harness) -> None:
    assert harness.route("foreign") is None
    with pytest.raises(ResourceNotFoundError):
        harness.route("foreign", is_required=True)


@pytest.mark.parametrize("prefix", ["acme", "cred_a"])
def test_credential_and_model_are_an_ad_hoc_target(harness: Harness, prefix: str) -> None:
    route = harness.route(f"{prefix}/vendor/some-model")
    assert route is not None
    assert (route.resource_id, route.targets) == (None, (Target("vendor/some-model", prefix),))


def test_resource_whose_name_has_a_slash_comes_first(harness: Harness) -> None:
    route = harness.route("with/slash")
    assert route is not None
    assert route.resource_id == "res_with/slash"


def test_models_of_providers_stay_models(harness: Harness) -> None:
    for model in ("gpt-5.4-mini", "openai/gpt-5.4-mini"):
        assert harness.route(model) is None
        assert harness.route(model, is_required=True) is None
    assert harness.route("vendor/unknown") is None


@pytest.mark.parametrize("model", ["unknown", "vendor/unknown", "acme/"])
def test_what_has_to_be_a_resource_and_is_none_is_not_found(harness: Harness, model: str) -> None:
    with pytest.raises(ResourceNotFoundError) as raised:
        harness.route(model, is_required=True)
    assert raised.value.code == "AI_RESOURCE_NOT_FOUND"


def test_secondary_models_are_counted_from_zero_and_keep_the_fallback(harness: Harness) -> None:
    for index in (0, 1):
        route = harness.route("ruled", "bad", secondary_index=index)
        assert route is not None
        assert [each.model for each in route.targets] == [f"second-{index}", "model-b"]
    for model, index in (("smart", 2), ("acme/model", 0)):
        with pytest.raises(HeadgateError) as raised:
            harness.route(model, secondary_index=index)
        assert raised.value.code == "COMPLETION_SECONDARY_MODEL_NOT_FOUND"


def test_rules_choose_the_first_model_or_block(harness: Harness) -> None:
    route = harness.route("ruled", "half of it")
    assert route is not None
    assert route.targets == (TARGET_B, TARGET_B)
    (event,) = route.events
    assert (event.original_model, event.routed_model) == ("model-a", "model-b")
    assert route.routing_seconds is not None
    # The number that was drawn, 40, is not below 30.
    route = harness.route("ruled", "a third of it")
    assert route is not None
    assert (route.targets[0], route.events) == (TARGET_A, ())
    with pytest.raises(RoutingBlockedError, match="no bad words"):
        harness.route("ruled", "something bad")


def test_calls_of_one_correlation_stay_with_one_model(harness: Harness) -> None:
    chosen: dict[str, set[str]] = {}
    for name in [f"conversation-{index}" for index in range(20)] * 2:
        call = harness.make_call("ruled", "half")
        call.correlation_id = name
        route = harness.index.route(call)
        assert route is not None
        chosen.setdefault(name, set()).add(route.targets[0].model)
    assert all(len(models) == 1 for models in chosen.values())
    assert {model for models in chosen.values() for model in models} == {"model-a", "model-b"}


def test_overrides_change_a_stored_resource_for_one_request(harness: Harness) -> None:
    route = harness.route("smart", overrides={"use_fallback": False, "model": {"max_retries": 5}})
    assert route is not None
    assert route.targets == (msgspec.structs.replace(TARGET_A, retries_max=5),)
    assert route.resource_id == "res_smart"
    route = harness.route("smart", overrides={"default_args": {"top_p": 1}})
    assert route is not None
    assert set(route.default_arguments) == {"temperature", "top_p"}
    # Another credential replaces the stored one, whose id would win.
    route = harness.route("smart", overrides={"model": {"credential_name": "acme"}})
    assert route is not None
    assert route.targets[0].credential_name == "acme"
    assert harness.route("smart") == harness.index.find("proj_1", "smart").route  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "overrides", [{"capacity": []}, {"enforce_capacity": False}, {"enforceCapacity": False}]
)
def test_overrides_lift_no_limit(harness: Harness, overrides: dict[str, Any]) -> None:
    route = harness.route("limited", overrides=overrides)
    assert route is not None
    assert route.capacity == (CapacityLimit("day", requests=5),)


def test_rules_that_come_with_a_request_are_few(harness: Harness) -> None:
    rules = [make_rule("x", then=B)] * 4
    advanced = [{"mode": "ADVANCED", "expression": "tokens.input > 1 " * 60, "then": B}] * 10
    # The stored rules are not compiled again, so they do not count.
    assert harness.route("ruled", overrides={"use_fallback": False}) is not None
    assert harness.route("smart", overrides={"routing": {"conditions": rules}}) is not None
    with pytest.raises(HeadgateError, match="at most 4000 characters"):
        harness.route("smart", overrides={"routing": {"conditions": advanced}})


def test_overrides_can_be_a_whole_resource(harness: Harness) -> None:
    overrides = {"model": {"model": "m", "credential_name": "acme"}, "name": "ignored"}
    route = harness.route("nothing-stored", overrides=overrides)
    assert route is not None
    assert (route.resource_id, route.resource_name) == (None, "nothing-stored")
    assert route.targets == (Target("m", "acme", 0, integration="openai"),)


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"model": {"credential_name": "none"}}, "model.connectionName"),
        ({"fallback_models": [{"model": "m", "credential_id": "x"}]}, "fallbackModels[0].connecti"),
        ({"model": {"provider": "nobody"}}, "model.provider"),
        ({"model": {"max_retries": 11}}, "model.maxRetries"),
        ({"surprise": 1}, "vmx.resourceConfigOverrides"),
        ({"default_args": {"stream": True}}, "vmx.resourceConfigOverrides.defaultArgs.stream"),
    ],
)
def test_wrong_override_names_its_place(harness: Harness, overrides: Any, place: str) -> None:
    with pytest.raises(HeadgateError) as raised:
        harness.route("smart", overrides=overrides)
    assert raised.value.code == "invalid_request"
    assert place in (raised.value.param or "")


def test_wrong_rule_of_a_request_names_its_place_in_it(harness: Harness) -> None:
    rule = {"mode": "ADVANCED", "expression": "x ==", "then": {"model": "m"}}
    with pytest.raises(HeadgateError) as raised:
        harness.route("smart", overrides={"routing": {"conditions": [rule]}})
    assert raised.value.param == "vmx.resourceConfigOverrides.routing.conditions[0].expression"
    with pytest.raises(HeadgateError, match="unknown field `conectionName`"):
        harness.route("smart", overrides={"model": {"conection_name": "acme"}})


def test_overrides_without_a_model_make_no_resource(harness: Harness) -> None:
    with pytest.raises(HeadgateError, match="have no `model`"):
        harness.route("nothing-stored", overrides={"use_fallback": True})
