"""Gate calls by the priority pools of their project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from headgate.capacity.model.pools import (
    PoolAllocator,
    PoolMembers,
    PoolRefusal,
    PriorityPools,
    explain_refusal,
)
from headgate.capacity.model.windows import count_limits, name_credential
from headgate.capacity.service.shared import AnnouncedLimits, SharedPools
from headgate.kit.clock import Clock
from headgate.relay.call import Call
from headgate.relay.capacity import PriorityGateError
from headgate.relay.capacity_limits import MINUTE
from headgate.relay.ports import Credential

ALLOCATORS_MAX = 10_000


class ProjectPools(Protocol):
    """Find the priority pools of projects, from memory."""

    @property
    def projects(self) -> Mapping[str, PriorityPools]: ...


class PoolPlace(msgspec.Struct, frozen=True):
    """Locate a call in the pools of its project. `name` is that of the shares in all processes,
    `capacity` the tokens per minute that are shared, `at` the admission in unix seconds."""

    name: str
    allocator: PoolAllocator
    index: int
    capacity: int
    at: float


class PoolGate:
    """Take the tokens of calls from the pools of their project, or refuse.

    With `shared`, the shares are those of all processes.
    """

    def __init__(self, clock: Clock, pools: ProjectPools, announced: AnnouncedLimits) -> None:
        self._now = clock.now
        self._pools = pools
        self._announced = announced
        self._allocators: dict[str, PoolAllocator] = {}
        self._members: dict[str, tuple[PriorityPools, PoolMembers]] = {}
        self.shared: SharedPools | None = None

    @property
    def projects(self) -> Mapping[str, PriorityPools]:
        return self._pools.projects

    def find(self, call: Call, credential: Credential, now: float) -> PoolPlace | None:
        """Return where a call belongs; None for a call of no pool, or where there is nothing to
        share."""
        pools = self._pools.projects.get(call.grant.project_id)
        if pools is None:
            return None
        route = call.route
        names = () if route is None else (route.resource_id or "", route.resource_name)
        index = self._find_members(pools).find(key_id=call.grant.key_id, resource=names)
        if index is None:
            return None
        capacity, model = self._find_capacity(credential, call.model)
        if capacity is None:
            return None
        name = msgspec.json.encode(
            (pools.project_id, credential.id, model, pools.created_at, pools.version)
        ).decode()
        return PoolPlace(name, self._find_allocator(name, pools, now), index, capacity, now)

    def take(self, place: PoolPlace, tokens: int, credential: Credential) -> None:
        """Take tokens by what this process knows. Raise `PriorityGateError`."""
        refusal = place.allocator.take(place.index, tokens, place.capacity, place.at)
        if refusal is not None:
            raise make_gate_error(refusal, tokens, credential)
        if self.shared is not None:
            self.shared.push_pool(place.name, place.allocator, place.index, tokens, place.at)

    async def take_shared(self, place: PoolPlace, tokens: int, credential: Credential) -> None:
        """Take tokens of the shares of all processes, or else as `take`. Raise
        `PriorityGateError`."""
        shared = self.shared
        if shared is None or not shared.is_available:
            self.take(place, tokens, credential)
            return

        def change(allocator: PoolAllocator) -> PoolRefusal | None:
            return allocator.take(place.index, tokens, place.capacity, place.at)

        changed = await shared.change_pool(place.name, place.allocator, change)
        if not changed.reached:
            self.take(place, tokens, credential)
        elif changed.refusal is not None:
            raise make_gate_error(changed.refusal, tokens, credential)

    def correct(self, place: PoolPlace | None, tokens: int) -> None:
        """Count further tokens now, or give some back that were counted at admission."""
        if place is None or not tokens:
            return
        at = self._now() if tokens > 0 else place.at
        place.allocator.add(place.index, tokens, at)
        if self.shared is not None:
            self.shared.push_pool(place.name, place.allocator, place.index, tokens, at)

    def _find_capacity(self, credential: Credential, model: str | None) -> tuple[int | None, str]:
        """Return the tokens per minute that the pools share, and the model that they are for: the
        credential's own limit, else what its provider announced."""
        for counted in count_limits(credential.capacity):
            if counted.name == MINUTE and counted.tokens is not None:
                return counted.tokens, ""
        _, tokens = self._announced.find(credential.id, model)
        return tokens, model or ""

    def _find_members(self, pools: PriorityPools) -> PoolMembers:
        """Return the members of a project's pools, which are found again when the pools change."""
        known = self._members.get(pools.project_id)
        if known is None or known[0] is not pools:
            known = self._members[pools.project_id] = pools, PoolMembers(pools.pools)
        return known[1]

    def _find_allocator(self, name: str, pools: PriorityPools, now: float) -> PoolAllocator:
        allocator = self._allocators.get(name)
        if allocator is None:
            if len(self._allocators) >= ALLOCATORS_MAX:
                busy = {k: each for k, each in self._allocators.items() if not each.is_idle(now)}
                self._allocators = busy if len(busy) < ALLOCATORS_MAX else {}
            allocator = self._allocators[name] = PoolAllocator(pools.pools)
        return allocator


def make_gate_error(refusal: PoolRefusal, tokens: int, credential: Credential) -> PriorityGateError:
    name = name_credential(credential)
    return PriorityGateError(
        explain_refusal(refusal, tokens, name[0].lower() + name[1:]),
        retry_after_seconds=refusal.wait_seconds,
    )
