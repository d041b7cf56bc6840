"""Answer a repeated call with the stored answer of the first one (decision 0028).

It is a layer around `CallPipeline.run`, for calls with an `Idempotency-Key`. The key is claimed
before anything is sent. The answer is stored in the transaction of the receipt, so that a call that
was billed can be answered again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec

from headgate.kit.claims import (
    Claimed,
    ClaimEnding,
    ClaimRequest,
    Claims,
    ClaimState,
    ClaimVerdict,
)
from headgate.kit.crypto import BrokenSealError, SecretKey, encode_fields, open_box, seal
from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.request import JsonRequest
from headgate.relay.call import Call, Caller, CallerListener
from headgate.relay.caller_wrapper import CallerWrapper, CapturedBody
from headgate.relay.client_response import ClientResponse, ResponseEncoder
from headgate.relay.ports import DisconnectPolicy, Hold, Receipt

KEY = re.compile(rb"[\x20-\x7e]{1,255}")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DECIDING_HEADERS = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-type",
        b"openai-beta",
        b"openai-organization",
        b"openai-project",
    }
)
"""Forwarded headers that change what the provider answers. SDKs vary others from try to try."""
BOUNDARY = re.compile(rb'boundary="?([^";]+)"?', re.IGNORECASE)
STORED_ERRORS = frozenset({400, 404, 405, 410, 411, 413, 414, 415, 416, 422})
"""Statuses of the provider that the same request always gets, so that they are answers."""
REPLAYED = b"idempotent-replayed: true\r\nx-headgate-original-request-id: %b\r\n"

Run = Callable[[Call, Caller, ResponseEncoder], Awaitable[None]]


class InvalidIdempotencyKeyError(HeadgateError):
    """The `Idempotency-Key` is not 1 to 255 printable ASCII characters, or is sent twice.

    Send one key of that form, for example a UUID.
    """

    kind = Kind.INVALID
    code = "invalid_idempotency_key"


class IdempotencyConflictError(HeadgateError):
    """The `Idempotency-Key` was used before with another request.

    Use a new key for a new request.
    """

    kind = Kind.UNPROCESSABLE
    code = "idempotency_key_reused"


class IdempotencyKeyInUseError(HeadgateError):
    """The request with this `Idempotency-Key` is still running.

    Send it again after the `Retry-After`; it is answered once the first one is.
    """

    kind = Kind.CONFLICT
    code = "idempotency_key_in_use"


class StoredAnswerMissingError(HeadgateError):
    """The request with this `Idempotency-Key` was answered and billed, and its answer was not kept.

    Send the request with a new key to run it again. Its receipt has the id that the message names.
    """

    kind = Kind.CONFLICT
    code = "idempotent_answer_missing"


class OutcomeUnknownError(HeadgateError):
    """The request with this `Idempotency-Key` was sent twice, and nobody knows how that ended.

    Send the request with a new key, if it may run once more.
    """

    kind = Kind.CONFLICT
    code = "idempotency_outcome_unknown"


class ReplayedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """Hold an answer as the client got it. `trailers` are those of a stream, for a client that
    takes them."""

    status: int
    head: bytes
    body: bytes
    is_stream: bool = False
    trailers: bytes = b""


class ClaimedSettlement(Protocol):
    """Record a call together with the end of its claim."""

    def record_claimed(
        self, receipt: Receipt, hold: Hold | None, verdict: ClaimVerdict
    ) -> Awaitable[bool | None]:
        """Do as `Settlement.record`, and end the claim in the same transaction. The run before it
        of which nobody knows how it ended is charged nothing then."""
        ...

    def waive(self, request_id: str, *, billed_as: str) -> Awaitable[None]:
        """Charge nothing for the first of two runs of which nobody knows how they ended."""
        ...


class IdempotentCalls:
    """Run calls with an `Idempotency-Key`, each at most once, or answer them from the store.

    `answer_bytes_max` bounds one stored answer.
    """

    def __init__(
        self, run: Run, claims: Claims, settlement: ClaimedSettlement, *, answer_bytes_max: int
    ) -> None:
        self._run = run
        self._claims = claims
        self._settlement = settlement
        self._answer_bytes_max = answer_bytes_max
        self._running: dict[bytes, ClaimRequest] = {}
        """The calls of this process, so that most repetitions cost no look into the database."""
        self.replays = 0
        self.conflicts = 0

    async def run(
        self, call: Call, key: bytes, token: bytes, caller: Caller, encoder: ResponseEncoder
    ) -> None:
        """Answer one call as `CallPipeline.run` does. Raise what tells the caller to come again, or
        not to."""
        if call.method in SAFE_METHODS:
            await self._run(call, caller, encoder)
            return
        if not KEY.fullmatch(key):
            message = "An Idempotency-Key is 1 to 255 printable ASCII characters, and sent once."
            raise InvalidIdempotencyKeyError(message, should_retry=False)
        body = StreamDigest(call) if is_stream(call) else None
        digest = None if body is not None else digest_call(call)
        grant = call.grant
        claim_id = find_id(call, key)
        request = ClaimRequest(claim_id, digest, call.request_id, grant.organization_id)
        running = self._running.get(claim_id)
        if running is not None:
            raise self._refuse_running(running, digest)
        claimed = await self._acquire(request)
        if claimed.state is ClaimState.ACQUIRED:
            claim = OpenClaim(self._settlement, request, claimed, token, body)
            await self._run_claimed(call, claim, caller, encoder)
            return
        if claimed.state is ClaimState.EXHAUSTED and claimed.previous:
            await self._settlement.waive(claimed.previous, billed_as=claimed.owner)
        self._refuse(claimed)
        if body is not None and await body.read() != claimed.digest:
            self.conflicts += 1
            raise make_conflict(claimed.owner)
        self._replay(claimed, find_seal_key(claim_id, token), caller, encoder)

    async def _acquire(self, request: ClaimRequest) -> Claimed:
        try:
            return await self._claims.acquire(request)
        except BaseException:
            # A cancelled request may have the claim all the same: it is freed behind it.
            self._claims.release(ClaimVerdict(request.id, request.owner, ClaimEnding.FREED))
            raise

    async def _run_claimed(
        self, call: Call, claim: OpenClaim, caller: Caller, encoder: ResponseEncoder
    ) -> None:
        call.claim = claim
        if claim.body is not None:
            call.body = claim.body.pass_on()
        # Whoever sends a key comes back for the answer, so it is read to its end.
        call.grant = msgspec.structs.replace(call.grant, on_disconnect=DisconnectPolicy.DRAIN)
        recorder = claim.recorder = RecordingCaller(caller, self._answer_bytes_max)
        claim.encoder = encoder
        self._running[claim.request.id] = claim.request
        self._claims.track(claim.request)
        try:
            await self._run(call, recorder, encoder)
        finally:
            del self._running[claim.request.id]
            self._claims.forget(claim.request.id)
            if not claim.is_settled:
                self._claims.release(claim.give_up())

    def _refuse_running(self, running: ClaimRequest, digest: bytes | None) -> HeadgateError:
        self.conflicts += 1
        if None not in (running.digest, digest) and running.digest != digest:
            return make_conflict(running.owner)
        return make_in_use(running.owner)

    def _refuse(self, claimed: Claimed) -> None:
        """Raise what stands in the way of a stored answer."""
        state, owner = claimed.state, claimed.owner
        if state is ClaimState.ANSWERED:
            return
        self.conflicts += 1
        if state is ClaimState.REUSED:
            raise make_conflict(owner)
        if state is ClaimState.RUNNING:
            raise make_in_use(owner)
        if state is ClaimState.UNSTORED:
            raise StoredAnswerMissingError(
                f"The request with this Idempotency-Key was answered and billed as {owner}. Its "
                f"answer is not kept: it is larger than {self._answer_bytes_max} bytes, or the "
                "store is full. Use a new key to run it again.",
                should_retry=False,
            )
        raise OutcomeUnknownError(
            f"The request with this Idempotency-Key was sent twice, last as {owner}, and nobody "
            "knows how that ended. Use a new key if it may run once more.",
            should_retry=False,
        )

    def _replay(
        self, claimed: Claimed, key: SecretKey, caller: Caller, encoder: ResponseEncoder
    ) -> None:
        try:
            raw = open_box(key, claimed.answer, bound_to=claimed.owner.encode())
        except BrokenSealError:
            raise StoredAnswerMissingError(
                f"The request with this Idempotency-Key was answered as {claimed.owner}. Its "
                "answer opens only with the API key's token that was used then, and the key was "
                "rotated since. Use a new Idempotency-Key to run it again.",
                should_retry=False,
            ) from None
        caller.reserve_memory(len(raw))
        answer = msgspec.msgpack.decode(raw, type=ReplayedAnswer)
        self.replays += 1
        head = answer.head + REPLAYED % claimed.owner.encode()
        if not answer.is_stream:
            caller.answer(answer.status, head, answer.body)
            return
        caller.start(answer.status, head, encoder.trailer_names)
        caller.write(answer.body)
        if caller.takes_trailers:
            caller.finish(trailers=answer.trailers)
        else:
            caller.finish()


class OpenClaim:
    """Belong to one running call: tell its settlement how its claim ends."""

    recorder: RecordingCaller
    encoder: ResponseEncoder

    def __init__(
        self,
        settlement: ClaimedSettlement,
        request: ClaimRequest,
        claimed: Claimed,
        token: bytes,
        body: StreamDigest | None,
    ) -> None:
        self.request = request
        self.body = body
        self.is_settled = False
        self._settlement = settlement
        self._claimed = claimed
        self._token = token
        self._was_sent = False

    def bind(
        self, response: ClientResponse | None
    ) -> Callable[[Receipt, Hold | None], Awaitable[bool | None]]:
        """Return what records the receipt. `response` is the complete answer, None without one."""

        async def record(receipt: Receipt, hold: Hold | None) -> bool | None:
            self._was_sent = receipt.attempts > 0
            verdict = self._judge(receipt, response)
            is_first = await self._settlement.record_claimed(receipt, hold, verdict)
            self.is_settled = True
            return is_first

        return record

    def give_up(self) -> ClaimVerdict:
        """Return how a call ends that was not recorded."""
        return self._end(ClaimEnding.UNKNOWN if self._was_sent else ClaimEnding.FREED)

    def _judge(self, receipt: Receipt, response: ClientResponse | None) -> ClaimVerdict:
        if response is not None and is_answer(receipt):
            answer = self._build_answer(receipt, response)
            if answer is None:
                return self._end(ClaimEnding.UNSTORED)
            key = find_seal_key(self.request.id, self._token)
            sealed = seal(key, msgspec.msgpack.encode(answer), bound_to=self.request.owner.encode())
            return self._end(ClaimEnding.ANSWERED, sealed)
        if receipt.attempts and receipt.outcome in ("unknown", "broken", "cancelled"):
            return self._end(ClaimEnding.UNKNOWN)
        return self._end(ClaimEnding.FREED)

    def _build_answer(self, receipt: Receipt, response: ClientResponse) -> ReplayedAnswer | None:
        """Return the whole answer, with the bytes that are still withheld; None for a larger one
        than is kept."""
        recorder = self.recorder
        head, rest = response.preview(receipt)
        if recorder.body.is_too_large or recorder.sent_bytes + len(rest) > recorder.bytes_max:
            return None
        if not response.has_started:
            return ReplayedAnswer(receipt.status, head, rest)
        return ReplayedAnswer(
            recorder.status,
            recorder.head,
            b"".join((*recorder.body.pieces, rest)),
            is_stream=True,
            trailers=self.encoder.encode_trailers(receipt),
        )

    def _end(self, ending: ClaimEnding, answer: bytes = b"") -> ClaimVerdict:
        request = self.request
        digest = None if self.body is None else self.body.digest
        return ClaimVerdict(
            request.id, request.owner, ending, answer, digest, self._claimed.previous
        )


class RecordingCaller(CallerWrapper):
    """Pass an answer on to the client, and keep what it gets, also after it disconnected."""

    def __init__(self, caller: Caller, bytes_max: int) -> None:
        super().__init__(caller)
        self.bytes_max = bytes_max
        self.status = 0
        self.head = b""
        self.body = CapturedBody(caller, bytes_max)

    @property
    def gone(self) -> bool:
        """Return False: the answer is kept for who comes back. The listener hears of the
        disconnect."""
        return False

    @property
    def sent_bytes(self) -> int:
        return self.body.size

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        self.status, self.head = status, head
        super().start(status, head, trailer_names)

    def write(self, data: bytes) -> None:
        self.body.add(data)
        self._caller.write(data)

    def set_listener(self, listener: CallerListener | None) -> None:
        self._caller.set_listener(listener)
        if listener is not None and self._caller.gone:
            listener.connection_lost()


class StreamDigest:
    """Hash the body of a call that is streamed through, while it passes."""

    def __init__(self, call: Call) -> None:
        assert not isinstance(call.body, (JsonRequest, bytes)), "the body is a stream"
        self._body: AsyncIterator[bytes] = call.body
        self._hash = hashlib.sha256(describe_call(call))
        self.digest: bytes | None = None

    async def pass_on(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._hash.update(piece)
            yield piece
        self.digest = self._hash.digest()

    async def read(self) -> bytes:
        """Read the body to its end, without keeping it, and return the digest."""
        async for _ in self.pass_on():
            pass
        assert self.digest is not None, "the body was read"
        return self.digest


def is_stream(call: Call) -> bool:
    return not isinstance(call.body, (JsonRequest, bytes))


def is_answer(receipt: Receipt) -> bool:
    """Return whether the same request would get the same again, so that it is stored."""
    if receipt.outcome in ("completed", "pending"):
        return True
    return receipt.outcome == "upstream_error" and receipt.status in STORED_ERRORS


def find_id(call: Call, key: bytes) -> bytes:
    """Return what identifies an idempotency key: it belongs to an API key, a project and an
    endpoint."""
    grant = call.grant
    scope = (grant.organization_id, grant.project_id, grant.key_id, call.endpoint.name)
    return hashlib.sha256(encode_fields("headgate.call_claim.1", *scope, key)).digest()


def find_seal_key(claim_id: bytes, token: bytes) -> SecretKey:
    """Return the key that seals an answer: who has only the database cannot derive it."""
    fields = encode_fields("headgate.call_claim_seal.1", claim_id, token)
    return SecretKey(hashlib.sha256(fields).digest())


def describe_call(call: Call) -> bytes:
    """Encode what decides an answer besides the body."""
    headers = sorted(
        (name, BOUNDARY.sub(b"", value) if name == b"content-type" else value)
        for name, value in call.headers
        if name in DECIDING_HEADERS
    )
    return encode_fields(
        *(call.method, call.path, call.query, call.credential_name or ""),
        *(part for header in headers for part in header),
    )


def digest_call(call: Call) -> bytes:
    """Return the hash that tells one request from another.

    A form is hashed without its boundary, which SDKs draw anew for every try. A converted call has
    the hash of what its client sent.
    """
    if call.digest:
        return call.digest
    body = call.body.body if isinstance(call.body, JsonRequest) else call.body
    assert isinstance(body, bytes), "a stream is hashed while it passes"
    for name, value in call.headers:
        if name == b"content-type" and (boundary := BOUNDARY.search(value)):
            body = body.replace(b"--" + boundary[1], b"--")
    return hashlib.sha256(describe_call(call) + body).digest()


def make_conflict(owner: str) -> IdempotencyConflictError:
    return IdempotencyConflictError(
        f"This Idempotency-Key was used for another request ({owner}). Use a new key for a new "
        "request.",
        should_retry=False,
    )


def make_in_use(owner: str) -> IdempotencyKeyInUseError:
    return IdempotencyKeyInUseError(
        f"The request with this Idempotency-Key is still running as {owner}. Send it again in a "
        "second to get its answer.",
        retry_after_seconds=1.0,
        should_retry=True,
    )
