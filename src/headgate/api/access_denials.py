"""Records denied requests: a line in the log, and for people and management keys an entry in the
audit log. Both are limited per minute, so that a flood of invalid keys does not fill the disk. The
number of omitted ones is recorded at the end of the minute.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import sqlalchemy as sa
import structlog
from starlette.requests import Request

from headgate.accounts.model import SignInFailedError
from headgate.accounts.service import TooManySignInsError
from headgate.api.error_format import V1_PREFIX
from headgate.api.errors import WrongPasswordError
from headgate.api.gate import read_tokens
from headgate.audit.model import SYSTEM, Actor, ActorKind, AuditEvent
from headgate.audit.service import AuditLog
from headgate.keys.model import KeyKind, read_public_prefix
from headgate.keys.service import KeyIndex
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.event_limiter import EventLimiter

WINDOW_SECONDS = 60.0
LOG_LINES_MAX, LOG_LINES_OF_ADDRESS_MAX = 60, 10
AUDIT_ENTRIES_MAX, AUDIT_ENTRIES_OF_ADDRESS_MAX = 20, 5
"""In one window."""
UNKNOWN = "unknown"
ADMIN_PREFIX = f"hg_{KeyKind.ADMIN.value}_"

log = structlog.get_logger(__name__)


class SignInAttempt(msgspec.Struct, frozen=True):
    """Hold the normalized e-mail address of a sign-in, and the id of the person who has it."""

    email: str
    person_id: str


class DeniedRequest(msgspec.Struct, frozen=True):
    """Describe a denied request. Of `token` only the public part is recorded; `reason` is the
    code of the error."""

    api: str
    reason: str
    address: str
    token: bytes = b""
    user_agent: str = ""
    sign_in: SignInAttempt | None = None
    is_person: bool = False
    """Whether a person tried to sign in, or sent a token that is not an API key."""


class AccessDenialLog:
    """Record the denied requests of this process. Only for use on the event loop."""

    def __init__(self, storage: AsyncDatabase, audit: AuditLog, key_index: KeyIndex) -> None:
        self._storage = storage
        self._audit = audit
        self._key_index = key_index
        self._log_lines = EventLimiter(in_all=LOG_LINES_MAX, of_address=LOG_LINES_OF_ADDRESS_MAX)
        self._audit_entries = EventLimiter(
            in_all=AUDIT_ENTRIES_MAX, of_address=AUDIT_ENTRIES_OF_ADDRESS_MAX
        )
        self._window: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, denied: DeniedRequest) -> None:
        """Record a denied request, or count it if there are too many. Never raises or waits."""
        if self._window is None:
            loop = asyncio.get_running_loop()
            self._window = loop.call_later(WINDOW_SECONDS, self.end_window)
        if self._log_lines.take(denied.address):
            log.warning(
                "access.refused",
                face=denied.api,
                reason=denied.reason,
                address=denied.address,
                key=read_public_prefix(denied.token),
            )
        event = self._find_event(denied)
        if event is not None and self._audit_entries.take(denied.address):
            self._write(describe_actor(denied, event), event)

    def record_model_call(self, error: HeadgateError, token: bytes, address: str) -> None:
        self.record(DeniedRequest("/v1", error.code, address, token))

    def end_window(self) -> None:
        """Record how many denied requests of the minute were left out."""
        self._window = None
        lines, entries = self._log_lines.end(), self._audit_entries.end()
        if lines is not None:
            log.warning("access.refused_more", **msgspec.structs.asdict(lines))
        if entries is not None:
            changes = msgspec.structs.asdict(entries)
            self._write(SYSTEM, AuditEvent("access.refused_more", None, "headgate", changes))

    def _find_event(self, denied: DeniedRequest) -> AuditEvent | None:
        changes = {"reason": denied.reason, "face": denied.api}
        if denied.token.startswith(ADMIN_PREFIX.encode()):
            key_id, organization_id = self._key_index.find_owner(denied.token) or (UNKNOWN, None)
            return AuditEvent("key.refused", organization_id, key_id, changes)
        if denied.is_person:
            person_id = denied.sign_in.person_id if denied.sign_in is not None else ""
            return AuditEvent("person.sign_in_refused", None, person_id or UNKNOWN, changes)
        return None

    def _write(self, by: Actor, event: AuditEvent) -> None:
        task = asyncio.get_running_loop().create_task(self._record(by, event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, by: Actor, event: AuditEvent) -> None:
        def record(connection: sa.Connection) -> None:
            self._audit.record(connection, by, event)

        # The log has the line even while the database cannot be written.
        with contextlib.suppress(HeadgateError):
            await self._storage.write(record)


def describe_actor(denied: DeniedRequest, event: AuditEvent) -> Actor:
    """Return the actor of an audit entry about a request that is not authenticated."""
    kind = ActorKind.KEY if event.action == "key.refused" else ActorKind.PERSON
    name = denied.sign_in.email if denied.sign_in is not None else ""
    return Actor(kind, event.object_id, name, denied.address, denied.user_agent)


def find_denied_request(request: Request, error: HeadgateError) -> DeniedRequest | None:
    """Return the denied request that an error stands for; None for any other error."""
    is_sign_in = isinstance(error, SignInFailedError | TooManySignInsError | WrongPasswordError)
    if error.kind is not Kind.UNAUTHENTICATED and not is_sign_in:
        return None
    tokens = [token.encode("utf-8", "replace") for token in read_tokens(request)]
    keys = [token for token in tokens if read_public_prefix(token) is not None]
    marked = [token for token in tokens if token.startswith(b"hg_")]
    return DeniedRequest(
        "/v1" if request.url.path.startswith(V1_PREFIX) else "/api",
        error.code,
        request.client.host if request.client else "",
        token=(b"" if is_sign_in else next(iter(keys or marked), b"")),
        user_agent=request.headers.get("user-agent", "")[:256],
        sign_in=getattr(request.state, "sign_in", None),
        is_person=is_sign_in or (bool(tokens) and not marked),
    )
