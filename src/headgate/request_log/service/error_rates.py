"""Count the attempts of the last minutes, and how many of them failed.

Every process counts its own attempts at once. What other processes counted arrives through the
database, with the period of the job that writes back (five seconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import sqlalchemy as sa

from headgate.kit.clock import Clock
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.targets import FALLBACK
from headgate.request_log.store import error_rates as store
from headgate.request_log.store.error_rates import AttemptCount, AttemptKind

MINUTE = 60
MINUTES_MAX = 60
"""The longest window. Older minutes are forgotten."""
KINDS_MAX = 1_000
"""How many kinds of attempts one project has in one minute; further ones count without their
model, since callers choose that."""
ERROR = 400
UNCOUNTED = frozenset({"refused", "cancelled", "pending"})
"""The outcomes that say nothing about the provider."""

Kinds = dict[AttemptKind, int]
Minutes = dict[int, Kinds]


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
        self,
        project_id: str,
        *,
        minutes: int = 10,
        resource_id: str | None = None,
        credential: str | None = None,
        model: str | None = None,
        status: int | None = None,
    ) -> float:
        total = self.sum(
            project_id,
            minutes=minutes,
            resource_id=resource_id,
            credential=credential,
            model=model,
            status=status,
        )
        return total.percent

    def sum(
        self,
        project_id: str,
        *,
        minutes: int = 10,
        resource_id: str | None = None,
        credential: str | None = None,
        model: str | None = None,
        status: int | None = None,
    ) -> AttemptTotal:
        """Return the attempts of a window, which ends now; `find` has the meaning of the others."""
        first = int(self._clock.now() // MINUTE) - min(minutes, MINUTES_MAX) + 1
        attempts = failed = 0
        for known in (self._own.get(project_id), self._others.get(project_id)):
            for minute, kinds in (known or {}).items():
                if minute < first:
                    continue
                for kind, count in kinds.items():
                    if not _matches(kind, resource_id, credential, model):
                        continue
                    attempts += count
                    if kind.failed and status in (None, kind.status):
                        failed += count
        return AttemptTotal(attempts, failed)

    def share(self, connection: sa.Connection) -> None:
        """Tell other processes what this one counted, and learn what they did."""
        now = int(self._clock.now() // MINUTE)
        changed, self._changed = self._changed, set()
        if changed:
            store.replace_minutes(connection, self._process_id, changed, self._list(changed))
            store.delete_before(connection, now - MINUTES_MAX)
        others: dict[str, Minutes] = {}
        for each in store.select_others(connection, self._process_id, now - MINUTES_MAX):
            kinds = others.setdefault(each.project_id, {}).setdefault(each.minute, {})
            kinds[each.kind] = kinds.get(each.kind, 0) + each.attempts
        self._others = others

    def _count(self, project_id: str, kind: AttemptKind) -> None:
        minute = int(self._clock.now() // MINUTE)
        if minute != self._minute:
            self._forget(minute)
        kinds = self._own.setdefault(project_id, {}).setdefault(minute, {})
        if kind not in kinds and len(kinds) >= KINDS_MAX:
            kind = msgspec.structs.replace(kind, model="")
        kinds[kind] = kinds.get(kind, 0) + 1
        self._changed.add(minute)

    def _forget(self, minute: int) -> None:
        """Begin a minute, and forget those that no window reaches any more."""
        self._minute = minute
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
            for minute, kinds in list(known.items())
            if minute in wanted
            for kind, count in list(kinds.items())
        ]


def _matches(
    kind: AttemptKind, resource_id: str | None, credential: str | None, model: str | None
) -> bool:
    return (
        (resource_id is None or kind.resource_id == resource_id)
        and (credential is None or credential in (kind.credential_id, kind.credential_name))
        and (model is None or kind.model == model or kind.model.endswith(f"/{model}"))
    )
