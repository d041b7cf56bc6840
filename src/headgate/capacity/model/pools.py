"""Priority pools: how the resources and keys of a project share the tokens of a credential.

Every pool has a share of the credential's tokens per minute, in percent. It begins with its least
reservation. A pool that uses more than half of its share grows towards its greatest one: at first
out of what no pool has, then out of the shares of pools of less priority, which shrink to their
least reservation. A pool that uses less than half of its share for a while shrinks again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.kit.errors import HeadgateError, Kind

PERCENT = 100
MINUTE_SECONDS = 60
WINDOW_SECONDS = 30
"""Over how many seconds the use of a pool is measured to size its share."""
SCALE_UP_USE = 0.5
"""The use of its share at which a pool grows."""
COOLDOWN_SECONDS = 5.0
"""How long a share stays as it is before it shrinks."""
POOLS_MAX = 50
MEMBERS_MAX = 1000


class InvalidPoolsError(HeadgateError):
    """The priority pools of a project contradict each other.

    Correct the pool that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_priority_pools"


class PoolsNotFoundError(HeadgateError):
    """The project has no priority pools.

    Define them with `PUT /api/projects/{project_id}/priority-pools`.
    """

    kind = Kind.MISSING
    code = "not_found"


PoolName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Rank = Annotated[int, Meta(ge=0, le=1000)]
Percentage = Annotated[float, Meta(ge=0, le=PERCENT)]
Member = Annotated[str, Meta(min_length=1, max_length=200)]
Members = Annotated[tuple[Member, ...], Meta(max_length=MEMBERS_MAX)]


class PriorityPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reserve percentages of a credential's tokens per minute for resources and API keys. Among
    pools, the one of the lowest `rank` comes first."""

    name: PoolName
    rank: Rank
    min_reservation: Percentage = 0.0
    max_reservation: Percentage = 100.0
    resources: Members = ()
    keys: Members = ()


class PriorityPools(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the pools of a project, as they are stored. Times are unix seconds."""

    project_id: str
    organization_id: str
    pools: tuple[PriorityPool, ...]
    version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0


def check_pools(pools: Sequence[PriorityPool]) -> None:
    """Raise `InvalidPoolsError` for pools that cannot be shared out."""
    owners: dict[tuple[str, str], str] = {}
    names: set[str] = set()
    ranks: dict[int, str] = {}
    for index, pool in enumerate(pools):
        where = f"pools.{index}"
        if pool.name in names:
            raise InvalidPoolsError(f"Two pools are named {pool.name!r}.", param=f"{where}.name")
        if pool.rank in ranks:
            message = f"The pools {ranks[pool.rank]!r} and {pool.name!r} have the same rank."
            raise InvalidPoolsError(message, param=f"{where}.rank")
        if pool.min_reservation > pool.max_reservation:
            message = f"The pool {pool.name!r} reserves at least more than at most."
            raise InvalidPoolsError(message, param=f"{where}.min_reservation")
        names.add(pool.name)
        ranks[pool.rank] = pool.name
        _check_members(pool, owners, where)
    if sum(pool.min_reservation for pool in pools) > PERCENT:
        message = "The least reservations of all pools are more than 100 percent."
        raise InvalidPoolsError(message, param="pools")


def _check_members(pool: PriorityPool, owners: dict[tuple[str, str], str], where: str) -> None:
    """Reject a resource or key that is in two pools."""
    for field, members in (("resources", pool.resources), ("keys", pool.keys)):
        for member in members:
            other = owners.setdefault((field, member), pool.name)
            if other != pool.name:
                message = f"{member!r} is in the pools {other!r} and {pool.name!r}."
                raise InvalidPoolsError(message, param=f"{where}.{field}")


class PoolMembers:
    """Find the pool of a call, in one look whatever the number of members."""

    def __init__(self, pools: Sequence[PriorityPool]) -> None:
        self._resources: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        for index, pool in enumerate(pools):
            for found, members in ((self._resources, pool.resources), (self._keys, pool.keys)):
                for member in members:
                    found.setdefault(member, index)

    def find(self, *, key_id: str, resource: Sequence[str]) -> int | None:
        """Return the position of the pool of a call, by its resource (id or name) or else its key;
        None for a call of no pool."""
        found = [self._resources[name] for name in resource if name in self._resources]
        return min(found) if found else self._keys.get(key_id)


class PoolRefusal(msgspec.Struct, frozen=True):
    """Say why a pool refused a call. Tokens are per minute."""

    pool: PriorityPool
    share_percent: float
    allowed_tokens: int
    used_tokens: int
    wait_seconds: float


class UseState(msgspec.Struct, array_like=True):
    """Hold the share of a pool in percent, when it was changed, and the tokens by second."""

    share: float
    changed_at: float
    seconds: dict[int, int]


_decode_uses = msgspec.json.Decoder(list[UseState]).decode


class PoolUse:
    """Hold the share of one pool and the tokens that it used in each of the last seconds."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.changed_at = 0.0
        self._seconds: dict[int, int] = {}

    def describe(self) -> UseState:
        return UseState(self.share, self.changed_at, self._seconds)

    def take_over(self, state: UseState) -> None:
        self.share, self.changed_at, self._seconds = state.share, state.changed_at, state.seconds

    def add(self, tokens: int, at: float) -> None:
        second = int(at)
        self._seconds[second] = self._seconds.get(second, 0) + tokens

    def forget(self, now: float) -> None:
        oldest = int(now) - MINUTE_SECONDS
        if self._seconds and min(self._seconds) <= oldest:
            self._seconds = {at: each for at, each in self._seconds.items() if at > oldest}

    def count(self, now: float, seconds: int = MINUTE_SECONDS) -> int:
        """Return the tokens of the last seconds."""
        oldest = int(now) - seconds
        return max(0, sum(tokens for at, tokens in self._seconds.items() if at > oldest))

    def find_wait(self, now: float, excess: float) -> float:
        """Return the seconds until so many tokens are older than a minute."""
        for at in sorted(self._seconds):
            excess -= self._seconds[at]
            if excess <= 0:
                return max(1.0, at + MINUTE_SECONDS + 1 - now)
        return COOLDOWN_SECONDS


class PoolAllocator:
    """Share the tokens per minute of one credential out among the pools of one project.

    Times are in seconds of one clock, and `capacity` is in tokens per minute.
    """

    def __init__(self, pools: Sequence[PriorityPool]) -> None:
        self.pools = tuple(pools)
        self.uses = [PoolUse(pool.min_reservation) for pool in self.pools]
        self._order = sorted(range(len(self.pools)), key=lambda index: self.pools[index].rank)

    def check(self, index: int, tokens: int, capacity: int, now: float) -> PoolRefusal | None:
        """Resize the shares, and return why a call with so many tokens does not fit; None if it
        does. Nothing is counted."""
        for use in self.uses:
            use.forget(now)
        self._shrink(index, capacity, now)
        self._grow(index, tokens, capacity, now)
        use = self.uses[index]
        allowed, used = int(capacity * use.share / PERCENT), use.count(now)
        if used + tokens <= allowed:
            return None
        wait = use.find_wait(now, used + tokens - allowed)
        return PoolRefusal(self.pools[index], use.share, allowed, used, wait)

    def take(self, index: int, tokens: int, capacity: int, now: float) -> PoolRefusal | None:
        """Count a call with so many tokens, or return why it does not fit."""
        refusal = self.check(index, tokens, capacity, now)
        if refusal is None:
            self.add(index, tokens, now)
        return refusal

    def dump(self) -> bytes:
        """Return the shares and what was used, for another process."""
        return msgspec.json.encode([use.describe() for use in self.uses])

    def load(self, state: bytes) -> None:
        """Continue from what `dump` returned, of the same pools."""
        for use, described in zip(self.uses, _decode_uses(state), strict=True):
            use.take_over(described)

    def add(self, index: int, tokens: int, at: float) -> None:
        """Count tokens that a pool used, or give some back that were counted at that time."""
        self.uses[index].add(tokens, at)

    def is_idle(self, now: float) -> bool:
        """Return whether no pool used anything in the last minute."""
        return not any(use.count(now) for use in self.uses)

    def _shrink(self, index: int, capacity: int, now: float) -> None:
        """Let the other pools give back what they have not used for a while."""
        for other, use in enumerate(self.uses):
            if other == index or now - use.changed_at < COOLDOWN_SECONDS:
                continue
            wanted = self._find_wanted(other, 0, capacity, now)
            if wanted < use.share:
                use.share, use.changed_at = wanted, now

    def _grow(self, index: int, tokens: int, capacity: int, now: float) -> None:
        use = self.uses[index]
        missing = self._find_wanted(index, tokens, capacity, now) - use.share
        if missing <= 0:
            return
        free = PERCENT - sum(each.share for each in self.uses)
        gained = min(missing, max(0.0, free))
        for other in reversed(self._order[self._order.index(index) + 1 :]):
            if gained >= missing:
                break
            lower = self.uses[other]
            taken = min(missing - gained, lower.share - self.pools[other].min_reservation)
            if taken > 0:
                lower.share -= taken
                lower.changed_at = now
                gained += taken
        if gained > 0:
            use.share += gained
            use.changed_at = now

    def _find_wanted(self, index: int, tokens: int, capacity: int, now: float) -> float:
        """Return the share of which the use of the last seconds, and of this call, is half; within
        the pool's reservations."""
        pool = self.pools[index]
        used = self.uses[index].count(now, WINDOW_SECONDS) + tokens
        wanted = PERCENT * used / (SCALE_UP_USE * capacity) if capacity else PERCENT
        return min(pool.max_reservation, max(pool.min_reservation, wanted))


def explain_refusal(refusal: PoolRefusal, tokens: int, credential: str) -> str:
    """Return the message for a call that its pool refused."""
    return (
        f"The priority pool {refusal.pool.name!r} has {refusal.share_percent:.0f} percent of "
        f"{credential}, {refusal.allowed_tokens} tokens per minute, and {refusal.used_tokens} are "
        f"used. This call needs at least {tokens}. Try again in "
        f"{max(1, math.ceil(refusal.wait_seconds))} seconds."
    )
