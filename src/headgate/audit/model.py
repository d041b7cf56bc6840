"""Audit events, and the chain of hashes that makes changes to the log evident.

The hash of an entry covers its fields and the hash of the previous entry. Changing, removing or
moving an entry means rewriting all later ones. Somebody who keeps the newest hash elsewhere, as
`headgate audit verify` prints it, notices even that.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Any

import msgspec

from headgate.kit.crypto import encode_fields

MICROSECONDS = 1_000_000
FIRST_HASH = bytes(32)
FORMAT = "headgate.audit.1"


class ActorKind(enum.Enum):
    PERSON = "person"
    KEY = "key"
    COMMAND = "command"
    """The command line, on the machine itself."""
    SYSTEM = "system"
    """Headgate itself, at its start or in a background job."""


class Actor(msgspec.Struct, frozen=True):
    kind: ActorKind
    id: str
    name: str = ""
    address: str = ""
    user_agent: str = ""


COMMAND_LINE = Actor(ActorKind.COMMAND, "command")
SYSTEM = Actor(ActorKind.SYSTEM, "headgate")


class AuditEvent(msgspec.Struct, frozen=True):
    """Describe an action, which is named `<object>.<past participle>`, such as `key.revoked`.

    Without an organization it concerns the platform. `changes` are the relevant fields, never a
    secret.
    """

    action: str
    organization_id: str | None
    object_id: str
    changes: dict[str, Any] = {}


class AuditEntry(msgspec.Struct, frozen=True):
    """Represent an entry of the log. `number` counts from 1 without gaps. `at` is in unix
    seconds."""

    number: int
    at: float
    actor: Actor
    # `headgate audit list --json` has always written this name, and scripts read it.
    event: AuditEvent = msgspec.field(name="deed")
    previous_hash: bytes
    hash: bytes


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select entries. None does not restrict. Times are unix seconds."""

    organization_id: str | None = None
    object_id: str | None = None
    actor_id: str | None = None
    action: str | None = None
    since: float | None = None
    until: float | None = None


class ChainVerification(msgspec.Struct, frozen=True):
    """Hold the result of a check of the chain. `fault` names the first entry that is not intact."""

    entries: int
    head: bytes
    fault: str | None = None


def encode_changes(event: AuditEvent) -> str:
    """Return the changes as they are stored and hashed."""
    # Sorted, so that the same fields always give the same hash.
    return msgspec.json.encode(event.changes, order="sorted").decode()


def hash_entry(
    number: int, at_microseconds: int, actor: Actor, event: AuditEvent, *, after: bytes
) -> bytes:
    """Return the hash of an entry. `after` is the hash of the previous entry."""
    return hashlib.sha256(
        encode_fields(
            FORMAT,
            after,
            str(number),
            str(at_microseconds),
            actor.kind.value,
            actor.id,
            actor.name,
            actor.address,
            actor.user_agent,
            event.action,
            event.organization_id or "",
            event.object_id,
            encode_changes(event),
        )
    ).digest()
