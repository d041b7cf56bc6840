"""Key management services that wrap the master key, and unwrap it at each start.

Only the master key is sent to a key service, never an organization key or a secret. A start asks it
once, a call never, and no database transaction waits for it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import msgspec
import sqlalchemy as sa

from headgate.kit.crypto import KEY_BYTES, SecretKey, encode_fields
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Headers, Origin, Request, Timeouts
from headgate.vault.model.keys import (
    InvalidMasterKeyError,
    MasterKeyRecord,
    MasterKeyState,
)
from headgate.vault.service.master_key.key import LocalMasterKey, Provenance, list_known
from headgate.vault.service.master_key.source import describe_active, explain_mismatch

ANSWER_BYTES_MAX = 64 * 1024
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.#:-]{0,99}")


class KeyServiceResponse(msgspec.Struct, frozen=True):
    status: int
    body: bytes


Send = Callable[[Request], KeyServiceResponse]
"""Send one request and wait for the whole answer. Raise `EgressError`."""


class KeyServiceEndpoint(msgspec.Struct, frozen=True):
    """Describe a key service: name, address and timeout. `hint` says what to check on failure."""

    name: str
    origin: Origin
    base_path: bytes
    seconds: float
    hint: str

    def __str__(self) -> str:
        return f"{self.name} at {self.origin}"

    def build_request(self, path: str, headers: Headers, body: bytes) -> Request:
        timeouts = Timeouts(self.seconds, self.seconds, self.seconds, self.seconds)
        target = self.base_path + path.encode()
        return Request(self.origin, b"POST", target, headers, body, timeouts)


class KeyServiceUnavailableError(HeadgateError):
    """The key management service does not answer, or refuses.

    Check what the message names: address, token, permissions.
    """

    kind = Kind.UNAVAILABLE
    code = "key_service_failed"


class KeyManagementService(Protocol):
    """Wrap the master key under a key that never leaves the service.

    `context` is authenticated: the same one is needed to unwrap. Both methods block for seconds at
    most, and raise `KeyServiceUnavailableError`.
    """

    provider: str
    key_name: str

    def wrap(self, material: bytes, context: Mapping[str, str]) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes: ...


class RemoteSource:
    """Find the master key in the database, wrapped by a key service (`MasterKeySource`)."""

    def __init__(self, service: KeyManagementService) -> None:
        self._service = service
        self.provider = service.provider

    def find(self, connection: sa.Connection) -> LocalMasterKey | None:
        known = list_known(connection)
        if not known:
            return None
        record = self._choose(known, MasterKeyState.ACTIVE)
        if record is None:
            raise InvalidMasterKeyError(
                f"{self._service.key_name} of {self.provider} wraps no master key of this "
                f"database. {describe_active(known)} To move it: headgate vault rotate-master"
            )
        return self._open(record, known)

    def find_pending(self, connection: sa.Connection) -> LocalMasterKey | None:
        """Return the key that a running rotation introduces, if this service wraps it."""
        known = list_known(connection)
        record = self._choose(known, MasterKeyState.PENDING)
        return None if record is None else self._open(record, None)

    def create(self) -> LocalMasterKey:
        """Create a key, and unwrap it once before it is trusted."""
        material = os.urandom(KEY_BYTES)
        context = _context(SecretKey(material).id.hex())
        wrapped = self._service.wrap(material, context)
        if not hmac.compare_digest(self._service.unwrap(wrapped, context), material):
            raise InvalidMasterKeyError(
                f"{self.provider} gives back another key than it was given."
            )
        return self._build(material, wrapped)

    def _choose(
        self, known: Mapping[str, MasterKeyRecord], state: MasterKeyState
    ) -> MasterKeyRecord | None:
        own = (self.provider, self._service.key_name, state)
        found = [
            each for each in known.values() if (each.provider, each.key_name, each.state) == own
        ]
        return found[-1] if found else None

    def _open(
        self, record: MasterKeyRecord, known: Mapping[str, MasterKeyRecord] | None
    ) -> LocalMasterKey:
        wrapped = record.wrapped or b""
        material = self._service.unwrap(wrapped, _context(record.id))
        endpoint = f"{self._service.key_name} of {self.provider}"
        if len(material) != KEY_BYTES:
            raise InvalidMasterKeyError(
                f"{endpoint} gives back {len(material)} bytes, not a master key."
            )
        key = self._build(material, wrapped)
        refusal = None if known is None else explain_mismatch(key, known, endpoint)
        if refusal is not None or key.id != record.id:
            raise InvalidMasterKeyError(refusal or f"{endpoint} gives back another master key.")
        return key

    def _build(self, material: bytes, wrapped: bytes) -> LocalMasterKey:
        provenance = Provenance(self.provider, self._service.key_name, wrapped)
        return LocalMasterKey(material, provenance)


def call_key_service(
    send: Send, endpoint: KeyServiceEndpoint, request: Request, *, code: str = ""
) -> Any:
    """Send a request and return the JSON of the answer. Raise `KeyServiceUnavailableError`.

    `code` is the path of the service's error code (`error.status`). Nothing else of an error answer
    is shown, because its text may repeat what was sent.
    """
    try:
        reply = send(request)
    except EgressError as error:
        what = f"{type(error).__name__}: {error}"
        raise KeyServiceUnavailableError(
            f"{endpoint} does not answer ({what}). {endpoint.hint}"
        ) from error
    try:
        answer: Any = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        answer = None
    if reply.status == 200:
        return answer
    error_code = find_text(answer, code)
    own = f", {error_code}" if _CODE.fullmatch(error_code) else ""
    raise KeyServiceUnavailableError(
        f"{endpoint} refuses (status {reply.status}{own}). {endpoint.hint}"
    )


def find_text(answer: Any, path: str) -> str:
    """Return the text at a dotted path of a JSON value; empty if there is none."""
    for name in path.split("."):
        answer = cast("Any", answer).get(name) if isinstance(answer, dict) else None
    return answer if isinstance(answer, str) else ""


def read_base64(endpoint: KeyServiceEndpoint, answer: Any, path: str) -> bytes:
    """Decode the text at a dotted path of an answer. Raise `KeyServiceUnavailableError`."""
    text = find_text(answer, path)
    try:
        if text:
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        pass
    raise KeyServiceUnavailableError(f"{endpoint} answers without {path}. {endpoint.hint}")


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encode_context(context: Mapping[str, str]) -> str:
    """Encode a context for services that take bytes, ordered by field name."""
    pairs = [part for pair in sorted(context.items()) for part in pair]
    return encode_base64(encode_fields(*pairs))


def _context(key_id: str) -> Mapping[str, str]:
    return {"headgate": "master_key", "id": key_id}
