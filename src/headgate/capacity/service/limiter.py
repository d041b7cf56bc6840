"""Admit calls by the limits of their key, resource and credential, and by priority pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import structlog

from headgate.capacity.model.pools import PriorityPools
from headgate.capacity.model.windows import (
    UNKNOWN,
    CapacityWindow,
    CountedLimit,
    Denied,
    WindowState,
    count_limits,
    explain,
    find_denied_unit,
    find_window,
    name_bucket,
    name_credential,
)
from headgate.capacity.service.pool_gate import PoolGate, PoolPlace, ProjectPools
from headgate.capacity.service.shared import (
    AnnouncedLimits,
    LimitCheck,
    SharedCounters,
    SharedPools,
    SharedTake,
)
from headgate.capacity.service.windows import Windows
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.llm.endpoint import Pricing
from headgate.llm.estimate import estimate_input_tokens
from headgate.llm.request import JsonRequest, read_field
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.capacity import CapacityExhaustedError
from headgate.relay.capacity_limits import (
    CREDENTIAL,
    KEY,
    RESOURCE,
    SOURCE_IP,
    CapacityLimit,
    WindowUsage,
)
from headgate.relay.ports import Credential, Receipt

SHOWN_MAX = 100
"""How many values of a dimension are shown."""

log = structlog.get_logger(__name__)


class Admitted(msgspec.Struct):
    """Hold what a call was counted against, until it is settled. `credential_id` is empty between
    two targets."""

    tokens: int
    of_call: list[CapacityWindow]
    of_credential: list[CapacityWindow]
    credential_id: str
    pool: PoolPlace | None
    was_sent: bool = False
    """Whether a target before the current one was sent the call."""


class CapacityLimiter:
    """Count calls (`relay.capacity.CapacityGate`), and show the counts
    (`relay.capacity.CapacityUsage`).

    Without `shared`, or while it cannot be reached, this process counts by itself, with what the
    database had of others at the last exchange.
    """

    def __init__(
        self,
        clock: Clock,
        windows: Windows,
        *,
        announced: AnnouncedLimits,
        pools: ProjectPools,
    ) -> None:
        self._now = clock.now
        self._windows = windows
        self._announced = announced
        self._gate = PoolGate(clock, pools, announced)
        self.shared: SharedCounters | None = None
        self.refusals = 0

    @property
    def projects(self) -> Mapping[str, PriorityPools]:
        return self._gate.projects

    def share(self, counters: SharedCounters, pools: SharedPools) -> None:
        """Count with other processes from now on."""
        self.shared, self._gate.shared = counters, pools

    async def admit(self, state: CallState) -> None:
        """Count a call, at all levels or at none. Raise `CapacityExhaustedError` or
        `PriorityGateError`."""
        call, credential = state.call, state.credential
        if call.endpoint.pricing is Pricing.FREE or credential is None:
            return
        admitted = state.capacity if isinstance(state.capacity, Admitted) else None
        if admitted is not None and admitted.credential_id == credential.id:
            return
        now = self._now()
        tokens = estimate(call) if admitted is None else admitted.tokens
        of_call = self._list_call_checks(state, now) if admitted is None else []
        of_credential = self._list_credential_checks(state, credential, now)
        pool = self._gate.find(call, credential, now)
        try:
            await self._take([*of_call, *of_credential], tokens, pool, now, credential)
        except HeadgateError:
            self.refusals += 1
            raise
        windows = [check.window for check in of_credential]
        if admitted is None:
            taken = [check.window for check in of_call]
            state.capacity = Admitted(tokens, taken, windows, credential.id, pool)
        else:
            admitted.of_credential, admitted.credential_id = windows, credential.id
            admitted.pool = pool

    def leave(self, state: CallState, *, sent: bool) -> None:
        """Take back what the credential of a failed target counts; its request stays counted where
        it was `sent`."""
        admitted = state.capacity
        if not isinstance(admitted, Admitted) or not admitted.credential_id:
            return
        self._add(admitted.of_credential, 0 if sent else -1, -admitted.tokens)
        self._gate.correct(admitted.pool, -admitted.tokens)
        admitted.was_sent |= sent
        admitted.of_credential, admitted.credential_id, admitted.pool = [], "", None

    def settle(self, state: CallState, receipt: Receipt) -> None:
        """Replace the estimate of a call by what it used. A call that nobody answered counts
        nothing."""
        admitted, state.capacity = state.capacity, None
        if not isinstance(admitted, Admitted):
            return
        try:
            self._settle(admitted, receipt, was_sent=state.attempts > 0)
        # Called between an answer and its receipt, which must not be lost.
        except Exception:
            log.exception("capacity.fault", request_id=receipt.request_id)

    def find(
        self, level: str, owner_id: str, limits: Sequence[CapacityLimit], period: str
    ) -> WindowUsage | None:
        """Return the usage of an object in the current period, all dimensions left out; None
        without a limit of that period."""
        now = self._now()
        for counted in count_limits(tuple(limits)):
            if counted.name == period:
                window = self._windows.find(level, owner_id, counted, "", now)
                return _show(counted, window, now)
        return None

    def list_usage(
        self, level: str, owner_id: str, limits: Sequence[CapacityLimit]
    ) -> list[WindowState]:
        """Return what is used of the limits of an object. Of a limit with a dimension, the values
        that were used most."""
        now = self._now()
        shown: list[WindowState] = []
        for counted in count_limits(tuple(limits)):
            _, ends_at = find_window(counted.period, now)
            if counted.dimension is None and not counted.discovered:
                window = self._windows.find(level, owner_id, counted, "", now)
                shown.append(WindowState(counted, "", _show(counted, window, now), ends_at))
                continue
            for window in self._windows.list_values(level, owner_id, counted, now)[:SHOWN_MAX]:
                bucket = window.key.bucket
                known = self._complete(counted, owner_id, bucket)
                shown.append(WindowState(known, bucket, _show(known, window, now), ends_at))
        return shown

    def _complete(self, counted: CountedLimit, credential_id: str, model: str) -> CountedLimit:
        """Return a discovered limit with the numbers of a model; any other as it is."""
        if not counted.discovered:
            return counted
        requests, tokens = self._announced.find(credential_id, model)
        return msgspec.structs.replace(counted, requests=requests, tokens=tokens)

    async def _take(
        self,
        checks: Sequence[LimitCheck],
        tokens: int,
        pool: PoolPlace | None,
        now: float,
        credential: Credential,
    ) -> None:
        """Count a call in all windows and in its pool, or raise."""
        shared = self.shared
        if shared is None or not shared.is_available:
            self._take_here(checks, tokens, now)
            if pool is not None:
                self._take_of_pool_here(checks, tokens, pool, credential)
            if shared is not None:
                shared.push([check.window for check in checks], 1, tokens)
            return
        # Before the limits, so that no other call gets the same tokens of the pool.
        if pool is not None:
            await self._gate.take_shared(pool, tokens, credential)
        try:
            answer = await shared.take(checks, tokens) if checks else SharedTake(())
            if answer is None:
                self._take_here(checks, tokens, now)
                shared.push([check.window for check in checks], 1, tokens)
                return
            if answer.refused is None:
                self._windows.add([check.window for check in checks], 1, tokens)
            self._windows.take_totals(dict(answer.totals))
            if answer.refused is not None:
                raise make_refusal(checks[answer.refused], tokens, now)
        except BaseException:
            self._gate.correct(pool, -tokens)
            raise

    def _take_here(self, checks: Sequence[LimitCheck], tokens: int, now: float) -> None:
        for check in checks:
            window = check.window
            if find_denied_unit(check.counted, window.requests, window.tokens, tokens) is not None:
                raise make_refusal(check, tokens, now)
        self._windows.add([check.window for check in checks], 1, tokens)

    def _take_of_pool_here(
        self, checks: Sequence[LimitCheck], tokens: int, pool: PoolPlace, credential: Credential
    ) -> None:
        """Take tokens of a pool, or give back what the limits counted already."""
        try:
            self._gate.take(pool, tokens, credential)
        except HeadgateError:
            self._windows.add([check.window for check in checks], -1, -tokens)
            raise

    def _settle(self, admitted: Admitted, receipt: Receipt, *, was_sent: bool) -> None:
        """Settle a call; `was_sent` tells of its last target, the receipt of all of them."""
        is_served = was_sent or admitted.was_sent or receipt.outcome == "completed"
        used = count_used(receipt, admitted.tokens) if was_sent else 0
        difference = used - admitted.tokens
        self._add(admitted.of_call, 0 if is_served else -1, difference)
        self._add(admitted.of_credential, 0 if was_sent else -1, difference)
        self._gate.correct(admitted.pool, difference)

    def _add(self, windows: Sequence[CapacityWindow], requests: int, tokens: int) -> None:
        if not windows or not (requests or tokens):
            return
        self._windows.add(windows, requests, tokens)
        if self.shared is not None:
            self.shared.push(windows, requests, tokens)

    def _list_call_checks(self, state: CallState, now: float) -> list[LimitCheck]:
        grant, route = state.call.grant, state.call.route
        checks = self._list_checks(state, KEY, grant.key_id, grant.capacity, now)
        if route is not None and route.capacity:
            name = route.resource_name
            # One that exists in the request only counts within its project.
            owner_id = route.resource_id or f"{grant.project_id}/{name}"
            checks += self._list_checks(state, RESOURCE, owner_id, route.capacity, now, name)
        return checks

    def _list_credential_checks(
        self, state: CallState, credential: Credential, now: float
    ) -> list[LimitCheck]:
        name = name_credential(credential)
        return self._list_checks(state, CREDENTIAL, credential.id, credential.capacity, now, name)

    def _list_checks(
        self,
        state: CallState,
        level: str,
        owner_id: str,
        limits: tuple[CapacityLimit, ...],
        now: float,
        name: str = "",
    ) -> list[LimitCheck]:
        checks: list[LimitCheck] = []
        for counted in count_limits(limits):
            bucket = ""
            if counted.discovered:
                counted = self._complete(counted, owner_id, state.call.model or "")
                if counted.requests is None and counted.tokens is None:
                    continue
                bucket = name_bucket(state.call.model)
            elif counted.dimension is not None:
                bucket = find_bucket(state, counted)
            window = self._windows.open(level, owner_id, counted, bucket, now)
            checks.append(LimitCheck(window, counted, name))
        return checks


def _show(counted: CountedLimit, window: CapacityWindow | None, now: float) -> WindowUsage:
    _, ends_at = find_window(counted.period, now)
    return WindowUsage(
        counted.period,
        counted.requests,
        counted.tokens,
        0 if window is None else max(0, window.requests),
        0 if window is None else max(0, window.tokens),
        None if ends_at is None else max(0.0, ends_at - now),
    )


def estimate(call: Call) -> int:
    """Return the estimated tokens of a call's input; 0 for a body that is not JSON."""
    body = call.body
    return estimate_input_tokens(body.body, call.model) if isinstance(body, JsonRequest) else 0


def count_used(receipt: Receipt, estimated: int) -> int:
    """Return the tokens that a call used; the estimate where it was charged and nobody knows."""
    if receipt.usage is not None:
        return receipt.usage.input_tokens + receipt.usage.output_tokens
    return 0 if receipt.pricing == "free" else estimated


def find_bucket(state: CallState, counted: CountedLimit) -> str:
    """Return the value of a limit's dimension for a call; `unknown` where the call has none."""
    if counted.dimension == SOURCE_IP:
        try:
            return name_bucket("" if state.caller is None else state.caller.client_address)
        except HeadgateError:
            return UNKNOWN
    return name_bucket(read_metadata(state.call).get(counted.dimension_field or ""))


def read_metadata(call: Call) -> Mapping[str, object]:
    """Return the metadata of a call: of its header and, for other fields, of its body."""
    found: dict[str, object] = {}
    if isinstance(call.body, JsonRequest):
        of_body = read_field(call.body.fields.get("metadata"))
        if isinstance(of_body, dict):
            found |= of_body
    if call.metadata:
        found |= msgspec.json.decode(call.metadata, type=dict[str, str])
    return found


def make_refusal(check: LimitCheck, tokens: int, now: float) -> CapacityExhaustedError:
    window, counted = check.window, check.counted
    refused = find_denied_unit(counted, window.requests, window.tokens, tokens)
    # Where Valkey refused and the rest was given back meanwhile, the limit is shown as used up.
    unit, limit, used = refused or (
        ("requests", counted.requests, counted.requests)
        if counted.requests is not None
        else ("tokens", counted.tokens or 0, window.tokens)
    )
    wait = None if window.ends_at is None else max(0.0, window.ends_at - now)
    denied = Denied(
        counted, window.key.level, check.name, window.key.bucket, unit, limit, used, tokens, wait
    )
    return CapacityExhaustedError(explain(denied), wait_seconds=wait)
