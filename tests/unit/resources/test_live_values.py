"""The rules of a resource see how often its targets fail, and how far limits are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from headgate.relay.capacity_limits import CapacityLimit, WindowUsage
from headgate.relay.ports import Credential, Grant
from headgate.relay.request_log import ALL_ATTEMPTS, AttemptFilter
from headgate.resources.model.conditions import choose
from headgate.resources.model.slot import ModelSlot
from headgate.resources.service.live_values import LiveValuesSource, RuleSubject, join_usage
from tests.fakes.pipeline import CREDENTIAL, GRANT
from tests.unit.resources.routing_rules import compile_rules, condition, rule, view

SUBJECT = RuleSubject(ModelSlot(model="gpt", credential_name="main"), "res_1")
LIMIT = CapacityLimit("minute", requests=10, tokens=1_000)


class FakeRates:
    def __init__(self) -> None:
        self.asked: list[tuple[int, AttemptFilter]] = []

    def find(
        self, project_id: str, wanted: AttemptFilter = ALL_ATTEMPTS, *, minutes: int = 10
    ) -> float:
        self.asked.append((minutes, wanted))
        return 40.0 if wanted.credential == "main" else 0.0


class FakeUsage:
    """Have a level for each kind of limit that is used up most."""

    def __init__(self, used: dict[str, tuple[int, int]]) -> None:
        self.used = used

    def find(
        self, level: str, owner_id: str, limits: Sequence[CapacityLimit], period: str
    ) -> WindowUsage | None:
        if level not in self.used or period != "minute":
            return None
        requests, tokens = self.used[level]
        return WindowUsage(period, limits[0].requests, limits[0].tokens, requests, tokens, 42.5)


def find_credential(organization_id: str, name: str) -> Credential | None:
    found = replace(CREDENTIAL, capacity=(LIMIT,))
    return found if (organization_id, name) == (GRANT.organization_id, "main") else None


def matches_with(source: LiveValuesSource, condition: Any, grant: Grant = GRANT) -> bool:
    live = source.make(grant, SUBJECT)
    return choose(compile_rules(rule(condition)), view(), live, lambda _index: 0.0).index == 0


def test_error_rates_are_those_of_the_resource_unless_a_rule_names_others() -> None:
    rates = FakeRates()
    source = LiveValuesSource(error_rates=rates)
    assert matches_with(source, condition("errorRate()", "GREATER_THAN", "30", "number"))
    named = "errorRate(5, 429, 'other', 'mini')"
    assert not matches_with(source, condition(named, "GREATER_THAN", "30", "number"))
    own = AttemptFilter(resource_id="res_1", credential="main", model="gpt")
    other = AttemptFilter(resource_id="res_1", credential="other", model="mini", status=429)
    assert rates.asked == [(10, own), (5, other)]


def test_capacity_is_that_of_the_limit_that_is_nearest_to_its_end() -> None:
    usage = FakeUsage({"key": (9, 100), "credential": (2, 800)})
    source = LiveValuesSource(capacity=usage, find_credential=find_credential)
    grant = replace(GRANT, capacity=(LIMIT,))
    for expression, value in (
        ("capacityUsage().requestsUsagePercent", "90"),
        ("capacityUsage('minute').requestsLimitSource", "key"),
        ("capacityUsage('minute').remainingRequests", "1"),
        ("capacityUsage('minute').tokensUsagePercent", "80"),
        ("capacityUsage('minute').tokensLimitSource", "credential"),
        ("capacityUsage('minute').remainingTokens", "200"),
        ("capacityUsage('minute').remainingSeconds", "42"),
        ("capacityUsage('minute').limits[1].usedTokens", "800"),
        ("capacityUsage('minute', 'main').limits.length", "2"),
    ):
        assert matches_with(source, condition(expression, "EQUAL", value), grant), expression
    for expression in ("capacityUsage('hour').tokensLimit", "capacityUsage('minute', 'unknown')"):
        assert not matches_with(source, condition(expression, "EXISTS"), grant), expression


def test_without_a_limit_nothing_is_used_of_it() -> None:
    state = join_usage([("key", WindowUsage("minute", None, 100, 5, 0, None))])
    assert (state.requests_usage_percent, state.remaining_requests) == (None, None)
    assert (state.total_requests, state.tokens_usage_percent, state.remaining_seconds) == (
        5,
        0.0,
        None,
    )
