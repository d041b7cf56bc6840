"""Count the attempts of the last minutes, and how many of them failed.

Every process counts its own attempts at once. What other processes counted arrives through the
database, with the period of the job that writes back (five seconds).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import msgspec
import sqlalchemy as sa

from headgate.kit.clock import Clock
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.request_log import ALL_ATTEMPTS, AttemptFilter
from headgate.relay.targets import FALLBACK
from headgate.request_log.store import error_rates as store
from headgate.request_log.store.error_rates import AttemptCount, AttemptKind

MINUTE = 60
MINUTES_MAX = 60
"""The longest window. Older minutes are forgotten."""
KINDS_MAX = 200
"""How many kinds of attempts one resource has in one minute; further ones count without their
model, since callers choose that."""
SUMS_MAX = 10_000
"""How many sums of past minutes are kept."""
ERROR = 400
UNCOUNTED = frozenset({"refused", "cancelled", "pending"})
"""The outcomes that say nothing about the provider."""

Kinds = dict[AttemptKind, int]
Minutes = dict[int, dict[str, Kinds]]
"""What was counted, by minute and resource."""


class AttemptTotal(msgspec.Struct, frozen=True):
    """Count attempts of a window, and those of them that failed."""

    attempts: int
    failed: int

    @property
    def percent(self) -> float:
        return 100.0 * self.failed / self.attempts if self.attempts else 0.0


class AttemptCounter:
    """Implement `relay.request_log.ErrorRates`, and be told of every call that had a route."""

    def __init__(self, clock: Clock, process_id: str) -> None:
        self._clock = clock
        self._process_id = process_id
        self._own: dict[str, Minutes] = {}
        self._others: Mapping[str, Minutes] = {}
        self._changed: set[int] = set()
        self._minute = 0
        self._past: dict[tuple[str, AttemptFilter, int, int], AttemptTotal] = {}
        """The sums over the minutes before the current one, which change with `_others` only."""

    def observe(self, state: CallState, receipt: Receipt) -> None:
        """Count the attempts of a call: those before each fallback, and the one that answered."""
        route = state.call.route
        resource_id = "" if route is None else route.resource_id or ""
        project_id = receipt.project_id
        for event in state.events:
            if event.type == FALLBACK and event.attempts:
                kind = AttemptKind(
                    resource_id,
                    event.failed_credential_id or "",
                    event.failed_credential,
                    event.failed_model,
                    event.status,
                    failed=True,
                )
                self._count(project_id, kind)
        if not receipt.attempts or receipt.outcome in UNCOUNTED:
            return
        credential, target = state.credential, state.routed_target
        kind = AttemptKind(
            resource_id,
            receipt.credential_id or "",
            "" if credential is None else credential.name,
            (receipt.model_requested or "") if target is None else target.model,
            receipt.status,
            failed=receipt.status >= ERROR or receipt.outcome != "completed",
        )
        self._count(project_id, kind)

    def find(
        self, project_id: str, wanted: AttemptFilter = ALL_ATTEMPTS, *, minutes: int = 10
    ) -> float:
        return self.sum(project_id, wanted, minutes=minutes).percent

    def sum(
        self, project_id: str, wanted: AttemptFilter = ALL_ATTEMPTS, *, minutes: int = 10
    ) -> AttemptTotal:
        """Return the attempts of a window, which ends now."""
        current = int(self._clock.now() // MINUTE)
        first = current - min(minutes, MINUTES_MAX) + 1
        # Rules ask for the same before every call, so past minutes are summed once.
        past, asked = self._past, (project_id, wanted, first, current)
        before = past.get(asked)
        if before is None:
            if len(past) >= SUMS_MAX:
                past.clear()
            before = past[asked] = self._sum(project_id, wanted, range(first, current))
        now = self._sum(project_id, wanted, range(current, current + 1))
        return AttemptTotal(before.attempts + now.attempts, before.failed + now.failed)

    def share(self, connection: sa.Connection) -> None:
        """Tell other processes what this one counted, and learn what they did."""
        now = int(self._clock.now() // MINUTE)
        changed, self._changed = self._changed, set()
        if changed:
            store.replace_minutes(connection, self._process_id, changed, self._list(changed))
            store.delete_before(connection, now - MINUTES_MAX)
        others: dict[str, Minutes] = {}
        for each in store.select_others(connection, self._process_id, now - MINUTES_MAX):
            resources = others.setdefault(each.project_id, {}).setdefault(each.minute, {})
            kinds = resources.setdefault(each.kind.resource_id, {})
            kinds[each.kind] = kinds.get(each.kind, 0) + each.attempts
        # In this order: a sum that is made meanwhile of what was before goes with it.
        self._others = others
        self._past = {}

    def _sum(self, project_id: str, wanted: AttemptFilter, minutes: range) -> AttemptTotal:
        attempts = failed = 0
        known = (self._own.get(project_id, {}), self._others.get(project_id, {}))
        for minute, counted in itertools.product(minutes, known):
            for kind, count in _list_kinds(counted.get(minute, {}), wanted.resource_id):
                if matches(kind, wanted):
                    attempts += count
                    if kind.failed and wanted.status in (None, kind.status):
                        failed += count
        return AttemptTotal(attempts, failed)

    def _count(self, project_id: str, kind: AttemptKind) -> None:
        minute = int(self._clock.now() // MINUTE)
        if minute != self._minute:
            self._forget(minute)
        resources = self._own.setdefault(project_id, {}).setdefault(minute, {})
        kinds = resources.setdefault(kind.resource_id, {})
        if kind not in kinds and len(kinds) >= KINDS_MAX:
            kind = msgspec.structs.replace(kind, model="")
        kinds[kind] = kinds.get(kind, 0) + 1
        self._changed.add(minute)

    def _forget(self, minute: int) -> None:
        """Begin a minute, and forget those that no window reaches any more."""
        self._minute, self._past = minute, {}
        for project_id, minutes in list(self._own.items()):
            for each in [each for each in minutes if each <= minute - MINUTES_MAX]:
                del minutes[each]
            if not minutes:
                del self._own[project_id]

    def _list(self, minutes: Iterable[int]) -> list[AttemptCount]:
        wanted = frozenset(minutes)
        return [
            AttemptCount(minute, project_id, kind, count)
            for project_id, known in list(self._own.items())
            for minute, resources in list(known.items())
            if minute in wanted
            for kinds in list(resources.values())
            for kind, count in list(kinds.items())
        ]


def _list_kinds(
    resources: Mapping[str, Kinds], resource_id: str | None
) -> Iterable[tuple[AttemptKind, int]]:
    """Return the kinds of one resource, or of all."""
    if resource_id is not None:
        return resources.get(resource_id, {}).items()
    return itertools.chain.from_iterable(kinds.items() for kinds in resources.values())


def matches(kind: AttemptKind, wanted: AttemptFilter) -> bool:
    """Return whether attempts are of this credential and model."""
    credential, model = wanted.credential, wanted.model
    return (credential is None or credential in (kind.credential_id, kind.credential_name)) and (
        model is None or kind.model == model or kind.model.endswith(f"/{model}")
    )
