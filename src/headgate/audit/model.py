"""What an entry of the audit log is, and how each one seals all before it.

The hash of an entry covers its own fields and the hash of the one before. Whoever changes, removes
or moves an entry has to write all later ones anew; whoever notes the newest hash elsewhere, as
`headgate audit verify` prints it, would see even that.
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
    """What kind of principal acted."""

    PERSON = "person"
    KEY = "key"
    COMMAND = "command"
    """The command line, on the machine itself."""
    SYSTEM = "system"
    """Headgate by itself: at its start, or by the clock."""


class Actor(msgspec.Struct, frozen=True):
    """Who acts: its id, the name that it had then, and from where."""

    kind: ActorKind
    id: str
    name: str = ""
    address: str = ""
    user_agent: str = ""


COMMAND_LINE = Actor(ActorKind.COMMAND, "command")
SYSTEM = Actor(ActorKind.SYSTEM, "headgate")


class AuditEvent(msgspec.Struct, frozen=True):
    """What was done: `action` is `<object>.<verb in the past>`, such as `key.revoked`.

    No organization: the platform's own. `changes` are the fields that matter, never a secret.
    """

    action: str
    organization_id: str | None
    object_id: str
    changes: dict[str, Any] = {}


class AuditEntry(msgspec.Struct, frozen=True):
    """One line of the log. `number` counts from 1 without a gap; `at` in unix seconds."""

    number: int
    at: float
    actor: Actor
    event: AuditEvent = msgspec.field(name="deed")
    # `headgate audit list --json` has always called it so; scripts read it.
    previous_hash: bytes
    hash: bytes


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are wanted; None does not restrict. Times in unix seconds."""

    organization_id: str | None = None
    object_id: str | None = None
    actor_id: str | None = None
    action: str | None = None
    since: float | None = None
    until: float | None = None


class ChainVerification(msgspec.Struct, frozen=True):
    """What a check of the whole chain found. `fault` names the first entry that does not hold."""

    entries: int
    head: bytes
    fault: str | None = None


def encode_changes(event: AuditEvent) -> str:
    """The fields of an event as they are stored and sealed."""
    return msgspec.json.encode(event.changes, order="sorted").decode()


def hash_entry(
    number: int, at_microseconds: int, actor: Actor, event: AuditEvent, *, after: bytes
) -> bytes:
    """The hash of an entry that follows the one whose hash is `after`."""
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
