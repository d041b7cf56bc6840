"""Tries a credential by the one small call that its integration's manifest describes."""

from __future__ import annotations

import msgspec

from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Request, Timeouts
from headgate.kit.log import mask_text
from headgate.relay.ports import Credential
from headgate.vault.model import TestCall

ANSWER_BYTES_MAX = 1 << 20
EXCERPT_CHARACTERS_MAX = 300
TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=30.0, idle_seconds=30.0, total_seconds=60.0
)


class Trial(msgspec.Struct, frozen=True):
    """What came of it. `status` is 0 where the provider never answered."""

    is_valid: bool
    message: str
    status: int


class Attempt(msgspec.Struct, frozen=True):
    """A trial with what else is known of its call: its body, and why no answer came."""

    trial: Trial
    body: bytes = b""
    error: EgressError | None = None

    def __repr__(self) -> str:
        return f"Attempt({self.trial})"


async def try_credential(client: Client, credential: Credential, call: TestCall) -> Trial:
    """Make the call and judge the answer. Never raises for what the provider does."""
    return (await attempt(client, credential, call)).trial


async def attempt(client: Client, credential: Credential, call: TestCall) -> Attempt:
    """As `try_credential`, with the answer itself, for who meters it."""
    request = Request(
        origin=credential.origin,
        method=call.method.encode(),
        target=credential.base_path + call.path.encode(),
        headers=[*credential.headers, (b"content-type", b"application/json")],
        body=msgspec.json.encode(call.body),
        timeouts=TIMEOUTS,
    )
    try:
        response = await client.send(request)
        body = await response.read(ANSWER_BYTES_MAX)
    except EgressError as error:
        said = f"{credential.origin} did not answer: {error}"
        return Attempt(Trial(False, said, 0), error=error)
    return Attempt(_judge(credential, call, response.status, body=body), body)


def _judge(credential: Credential, call: TestCall, status: int, *, body: bytes) -> Trial:
    if status not in call.status_codes:
        excerpt = body.replace(credential.secret, b"...").decode("utf-8", "replace")
        shown = mask_text(excerpt[:EXCERPT_CHARACTERS_MAX])
        return Trial(False, f"{credential.origin} answered {status}: {shown}", status)
    try:
        answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return Trial(False, f"{credential.origin} answered {status}, but not in JSON.", status)
    missing = [field for field in call.response_fields if field not in answer]
    if missing:
        message = f"{credential.origin} answered {status}, but without {', '.join(missing)}."
        return Trial(False, message, status)
    return Trial(True, f"{credential.origin} accepts it.", status)
