"""Remember the providers that reject the request for the usage of a stream."""

from __future__ import annotations

from headgate.kit.http.message import Origin
from headgate.relay.call_state import CallState
from headgate.relay.ports import Credential

REFUSING_STATUS = frozenset({400, 422})
REMEMBERED_MAX = 4096
_NAMES = (b"stream_options", b"include_usage")

_RefusalKey = tuple[str, Origin, str | None]


class UsageRefusals:
    """Remember where the field was rejected: by credential, address and model, the oldest
    forgotten.

    The model counts because one address may stand for several servers.
    """

    def __init__(self) -> None:
        self._refused: dict[_RefusalKey, None] = {}

    def has(self, credential: Credential, model: str | None) -> bool:
        return (credential.id, credential.origin, model) in self._refused

    def note(self, state: CallState) -> None:
        """Note a call that was rejected with the field, and answered without it."""
        credential = state.credential
        assert credential is not None, "routing comes before sending"
        if len(self._refused) >= REMEMBERED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[credential.id, credential.origin, state.call.model] = None


def names_usage(body: bytes) -> bool:
    """Return whether an error may be about the field, since it names it."""
    return any(name in body for name in _NAMES)
