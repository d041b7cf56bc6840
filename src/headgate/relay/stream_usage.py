"""Whether a provider is asked for the usage of a stream that its client did not ask for."""

from __future__ import annotations

from headgate.kit.http.message import Origin
from headgate.relay.call_state import CallState
from headgate.relay.ports import Credential

REFUSING_STATUS = frozenset({400, 422})
REMEMBERED_MAX = 4096
_NAMES = (b"stream_options", b"include_usage")

_RefusalKey = tuple[str, Origin, str | None]


class UsageRefusals:
    """Remembers where the field was refused: credential, address and model, the oldest forgotten.

    It is a matter of the model, too: one address may stand for several servers.
    """

    def __init__(self) -> None:
        self._refused: dict[_RefusalKey, None] = {}

    def has(self, credential: Credential, model: str | None) -> bool:
        """Whether the field was refused there."""
        return (credential.id, credential.origin, model) in self._refused

    def note(self, state: CallState) -> None:
        """A call was refused with the field, and answered without it."""
        credential = state.credential
        assert credential is not None, "routing comes before sending"
        if len(self._refused) >= REMEMBERED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[credential.id, credential.origin, state.call.model] = None


def names_usage(body: bytes) -> bool:
    """Whether a refusal may be about the field: it names it."""
    return any(name in body for name in _NAMES)
