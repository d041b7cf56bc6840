"""Fakes of everything around the pipeline: each implements its port and records what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Headers, HoldBytes, Origin, Request, Sink
from headgate.llm import request
from headgate.llm.convert.field_rules import FieldRules
from headgate.llm.endpoint import Endpoint
from headgate.llm.providers.openai import PROVIDER
from headgate.llm.request import JsonRequest
from headgate.llm.routes import RouteTable
from headgate.llm.usage import ParsedUsage, Usage
from headgate.relay.call import Call, CallerListener
from headgate.relay.call_state import CallState
from headgate.relay.ports import (
    Budget,
    Credential,
    Denial,
    Grant,
    Hold,
    HoldRefusedError,
    ListedManagedModel,
    ManagedModelRoute,
    Model,
    ModelMatch,
    Price,
    Receipt,
)
from headgate.relay.upstream import UpstreamResponse

ROUTES = RouteTable(PROVIDER.endpoints)
GRANT = Grant("key_1", "org_1", "proj_1")
SECRET = b"sk-provider-0123456789"
CREDENTIAL = Credential(
    id="cred_1",
    name="main",
    integration="openai",
    managed=False,
    origin=Origin("https", "api.openai.com", 443),
    base_path=b"/v1",
    headers=[(b"authorization", b"Bearer " + SECRET)],
    secret=SECRET,
)
CHAT = b'{"model":"gpt-5.4-mini","messages":[]}'
STREAMED_CHAT = b'{"model":"gpt-5.4-mini","messages":[],"stream":true}'


class ManualClock:
    """Let time pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Advance the clock without waiting."""
        self.seconds += seconds


def find_endpoint(path: str, method: str = "POST") -> Endpoint:
    return ROUTES.match(method, path)


def make_call(
    path: str = "/chat/completions",
    *,
    body: bytes | AsyncIterator[bytes] = CHAT,
    method: str = "POST",
    grant: Grant = GRANT,
) -> Call:
    endpoint = find_endpoint(path, method)
    decoded: JsonRequest | bytes | AsyncIterator[bytes] = body
    model = None
    if isinstance(body, bytes) and body.startswith(b"{"):
        decoded = request.decode(body, checked=endpoint.checked)
        model = decoded.model
    return Call(
        request_id="req_1",
        grant=grant,
        endpoint=endpoint,
        method=method,
        path=path.encode(),
        query=b"",
        headers=[(b"content-type", b"application/json")],
        body=decoded,
        started_at=1_000.0,
        model=model,
    )


def make_state(call: Call | None = None) -> CallState:
    """Return the state of a call after routing."""
    call = call or make_call()
    streams = isinstance(call.body, JsonRequest) and call.body.stream
    return CallState(
        call,
        ParsedUsage(),
        credential=CREDENTIAL,
        target=b"/v1" + call.path,
        body=call.body,
        streams=streams,
    )


class FakeResponse:
    """Represent a response whose body a test feeds; `body` is what `read` returns, or raises."""

    def __init__(
        self, status: int = 200, headers: Headers | None = None, body: bytes | EgressError = b""
    ) -> None:
        self.status = status
        self.headers: Headers = headers or []
        self.sink: Sink | None = None
        self.aborted = False
        self.paused = False
        self.streaming = asyncio.Event()
        self._body = body

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        if isinstance(self._body, EgressError):
            raise self._body
        return self._body

    def stream(self, sink: Sink) -> None:
        self.sink = sink
        self.streaming.set()

    def feed(self, *chunks: bytes) -> None:
        for chunk in chunks:
            if self.sink is not None and not self.aborted:
                self.sink.on_data(chunk)

    def end(self) -> None:
        assert self.sink is not None
        self.sink.on_end()

    def fail(self, error: Exception) -> None:
        assert self.sink is not None
        self.sink.on_failure(error)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


Step = FakeResponse | EgressError | Callable[[Request], Awaitable[FakeResponse]]


class FakeClient:
    """Answer by a list of steps, the last of which is repeated."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.sent: list[Request] = []

    async def send(self, request: Request) -> FakeResponse:
        self.sent.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, EgressError):
            raise step
        return step if isinstance(step, FakeResponse) else await step(request)


class FakeCaller:
    """Record what the client of a call gets."""

    def __init__(self) -> None:
        self.gone = False
        self.sent_bytes = 0
        self.has_enough = False
        self.status = 0
        self.head = b""
        self.body = b""
        self.task: asyncio.Task[Any] | None = None
        """The task of the call, which is cancelled when the client is given up."""
        self.finished: bool | None = None
        """Whether the body ended completely; None before its end."""
        self.listener: CallerListener | None = None
        self.client_address = "203.0.113.7"
        self.held_bytes = 0
        self.takes_trailers = False
        self.trailers = b""

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        self.start(status, head)
        self.write(body)
        self.finish()

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        self.status, self.head = status, head

    def write(self, data: bytes) -> None:
        self.body += data
        self.sent_bytes += len(data)

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        self.finished = complete
        self.trailers = trailers

    def reserve_memory(self, size: int) -> None:
        self.held_bytes += size

    def set_listener(self, listener: CallerListener | None) -> None:
        self.listener = listener
        if self.task is None:
            self.task = asyncio.current_task()

    def abandon(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def leave(self) -> None:
        self.gone = True
        if self.listener is not None:
            self.listener.connection_lost()


class FakeEncoder:
    """Pass headers through, with the error frames of the endpoint's meter."""

    trailer_names = b"x-cost"

    def encode_trailers(self, receipt: Receipt) -> bytes:
        return b"x-cost: %d\r\n" % receipt.cost_nano

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        return b"".join(b"%b: %b\r\n" % header for header in answer.headers)

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        return body

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        return body

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        described = {"message": error.message, "type": "t", "param": None, "code": error.code}
        return state.call.endpoint.meter.encode_error(described, state.parsed_usage)


class FlatPrice:
    """Cost a nano-dollar a token in, ten a token out."""

    id = "price_1"

    def __init__(self, tool_fees: dict[str, int] | None = None) -> None:
        self.tool_fees = tool_fees or {}

    def cost(self, usage: Usage, service_tier: str | None) -> int | None:
        if not usage.tool_calls.keys() <= self.tool_fees.keys() or usage.characters:
            return None
        fees = sum(self.tool_fees[name] * count for name, count in usage.tool_calls.items())
        return usage.input_tokens + 10 * usage.output_tokens + fees

    def bound(self, input_tokens: int, output_tokens: int, service_tier: str | None) -> int | None:
        return input_tokens + 10 * output_tokens


@dataclass
class FakeModels:
    """Represent a catalog of one model, which may have a price and another wire id."""

    model: Model = field(default_factory=lambda: Model("gpt-5.4-mini", "gpt-5.4-mini", 1_000, 500))
    is_priced: bool = True
    tool_fees: dict[str, int] = field(default_factory=dict[str, int])
    rules: FieldRules | None = None

    @property
    def providers(self) -> Sequence[str]:
        return [self.model.integration]

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        model = self.find(name)
        place = integration or self.model.integration
        wire_id = name if model is None else model.wire_id
        return ModelMatch(place, name, wire_id, model, (f"{place}/{name}", name))

    def find(self, model_id: str, integration: str | None = None) -> Model | None:
        return self.model if model_id == self.model.id else None

    def field_rules(self, integration: str, endpoint: str) -> FieldRules | None:
        return self.rules

    def price(self, model_id: str, at: float, integration: str | None = None) -> Price | None:
        if not self.is_priced or not model_id.startswith(self.model.id):
            return None
        return FlatPrice(self.tool_fees)


class FakeCredentials:
    """Resolve every call to the same credential."""

    def __init__(self, credential: Credential = CREDENTIAL) -> None:
        self.credential = credential

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        return self.credential

    def find_integration(self, organization_id: str, name: str, preferred: str) -> str:
        return preferred

    def has_any(self, organization_id: str, integration: str) -> bool:
        return True

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        return self.credential if integration == self.credential.integration else None


@dataclass
class FakeManagedModelRoutes:
    """Hold managed models by id, and what serves all other ids."""

    named: dict[str, ManagedModelRoute] = field(default_factory=dict[str, ManagedModelRoute])
    other: ManagedModelRoute | None = None

    def __len__(self) -> int:
        return len(self.named)

    def find(self, model_id: str) -> ManagedModelRoute | None:
        return self.named.get(model_id)

    def default(self) -> ManagedModelRoute | None:
        return self.other

    def list(self) -> list[ListedManagedModel]:
        return [
            ListedManagedModel(
                name, name, each.model_id, each.wire_id, each.credential.id, 1_800_000_000.5
            )
            for name, each in self.named.items()
        ]


class WalletEmptyError(HeadgateError):
    kind = Kind.UNPAID
    code = "insufficient_funds"


def make_denial(hold: Hold, available_nano: int) -> Denial:
    return Denial(
        layer="wallet",
        key="wallet",
        scope_id=hold.organization_id,
        limit_nano=1_000_000_000,
        used_nano=0,
        held_nano=1_000_000_000 - available_nano,
        needed_nano=hold.amount_nano,
        available_nano=available_nano,
        resets_at=None,
    )


@dataclass
class FakeBudgets:
    """Have the same budgets for every key of some organizations."""

    budgets: tuple[Budget, ...] = ()
    organizations: Container[str] = ()

    def find(self, grant: Grant, *, managed: bool) -> tuple[Budget, ...]:
        return tuple(each for each in self.budgets if managed or not each.managed_only)


class FakeLedger:
    """Record holds and receipts; `refusal` is what either raises.

    With `available_nano` a hold gets no more than that, and is refused if it needs more.
    """

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.receipts: list[Receipt] = []
        self.refusal: HeadgateError | None = None
        self.available_nano: int | None = None
        self.trouble: HeadgateError | None = None
        self.deferred: list[tuple[Receipt, Hold | None]] = []
        self.released: list[Hold] = []

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def defer(self, receipt: Receipt, hold: Hold | None) -> None:
        self.deferred.append((receipt, hold))

    async def hold(self, hold: Hold) -> Hold:
        if self.refusal is not None:
            raise self.refusal
        available = self.available_nano
        if available is not None and available < hold.amount_nano:
            if not 0 <= hold.amount_min_nano <= available:
                raise HoldRefusedError(
                    "The wallet does not cover the call.", denial=make_denial(hold, available)
                )
            hold = msgspec.structs.replace(hold, amount_nano=available)
        self.holds.append(hold)
        return hold

    async def release(self, hold: Hold, receipt: Receipt | None) -> None:
        self.released.append(hold)
        if receipt is not None:
            self.receipts.append(receipt)

    async def record(self, receipt: Receipt, hold: Hold | None) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.receipts.append(receipt)
