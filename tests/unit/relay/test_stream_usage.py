"""A provider that rejects the request for the usage of a stream is not asked for it again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.kit.http import errors as egress
from headgate.kit.http.message import Origin, Timeouts
from headgate.llm.request import JsonRequest
from headgate.relay.breaker import Breakers
from headgate.relay.call_state import CallState
from headgate.relay.ports import Credential
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.stream_usage import REMEMBERED_MAX, UsageRefusals
from headgate.relay.upstream import Upstream, UpstreamResponse
from tests.fakes.pipeline import (
    CREDENTIAL,
    STREAMED_CHAT,
    FakeCaller,
    FakeClient,
    FakeCredentials,
    FakeModels,
    FakeResponse,
    ManualClock,
    Step,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

REFUSED = b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}'
ASKED = STREAMED_CHAT[:-1] + b',"stream_options":{"include_usage":true}}'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rig:
    """Hold routing and sending, with the memory that they share."""

    def __init__(self, *steps: Step, credential: Credential = CREDENTIAL) -> None:
        clock = ManualClock()
        breakers = Breakers(clock, failures=1, open_seconds=30)
        refusals = UsageRefusals()
        self.client = FakeClient(*steps)
        self.upstream = Upstream(
            self.client,
            policy=RetryPolicy(),
            timeouts=Timeouts(),
            breakers=breakers,
            clock=clock,
            usage_refusals=refusals,
        )
        self.routing = Routing(
            FakeCredentials(credential), FakeModels(), breakers, usage_refusals=refusals
        )
        self.state = make_state()

    async def call(self, body: bytes = STREAMED_CHAT) -> UpstreamResponse:
        self.state = CallState(make_call(body=body), self.state.parsed_usage)
        self.routing.plan(self.state)
        return await self.upstream.send(self.state)

    @property
    def sent(self) -> list[object]:
        return [request.body for request in self.client.sent]


@pytest.mark.parametrize("status", [400, 422])
async def test_refused_field_is_left_out_in_the_same_call_and_from_then_on(status: int) -> None:
    rig = Rig(FakeResponse(status, body=REFUSED), FakeResponse(200))
    assert (await rig.call()).status == 200
    assert rig.sent == [ASKED, STREAMED_CHAT]
    assert (rig.state.attempts, rig.state.requested_usage, rig.state.was_sent) == (2, False, True)
    assert rig.state.body_bytes == len(STREAMED_CHAT)
    assert (await rig.call()).status == 200
    assert rig.sent == [ASKED, STREAMED_CHAT, STREAMED_CHAT]
    assert rig.state.attempts == 1
    other = STREAMED_CHAT.replace(b"gpt-5.4-mini", b"other")
    await rig.call(other)
    assert rig.sent[-1] == ASKED.replace(b"gpt-5.4-mini", b"other")


async def test_rejection_for_another_reason_is_passed_on_and_not_remembered() -> None:
    for body in (b'{"error":{"message":"Too long."}}', REFUSED):
        rig = Rig(FakeResponse(400, body=body), FakeResponse(400, body=body), FakeResponse(200))
        answer = await rig.call()
        assert (answer.status, answer.body) == (400, body if body != REFUSED else None)
        await rig.call()
        assert rig.sent[-1] == ASKED


async def test_field_of_the_client_is_never_left_out() -> None:
    rig = Rig(FakeResponse(400, body=REFUSED))
    assert (await rig.call(ASKED)).status == 400
    assert rig.sent == [ASKED]
    assert rig.state.attempts == 1


async def test_refusal_that_breaks_off_is_a_failed_attempt() -> None:
    rig = Rig(FakeResponse(400, body=egress.DisconnectedError("reset")))
    with pytest.raises(Exception, match="broke off"):
        await rig.call()
    assert rig.sent == [ASKED]


async def test_credential_with_usage_requests_off_is_never_asked() -> None:
    rig = Rig(FakeResponse(200), credential=replace(CREDENTIAL, asks_usage=False))
    await rig.call()
    assert rig.sent == [STREAMED_CHAT]
    assert not rig.state.requested_usage


@pytest.mark.parametrize(("envelopes", "copies"), [(b"", 1), (b'"vmx":{},', 2)])
async def test_every_copy_of_a_large_body_is_counted(envelopes: bytes, copies: int) -> None:
    large = b'{"text":"%b",' % (b"x" * 100_000) + envelopes + STREAMED_CHAT[1:]
    rig, caller = Rig(), FakeCaller()
    state = CallState(make_call(body=large), rig.state.parsed_usage, caller=caller)
    rig.routing.plan(state)
    assert caller.held_bytes // 100_000 == copies


def test_so_many_refusals_are_remembered() -> None:
    refusals = UsageRefusals()
    state = make_state()
    for number in range(REMEMBERED_MAX + 1):
        state.call.model = f"m{number}"
        refusals.note(state)
    assert not refusals.has(CREDENTIAL, "m0")
    assert refusals.has(CREDENTIAL, "m1")
    assert not refusals.has(replace(CREDENTIAL, id="cred_2"), "m1")
    assert not refusals.has(replace(CREDENTIAL, origin=Origin("https", "other", 443)), "m1")


def test_body_without_the_field_is_the_clients_own() -> None:
    rig = Rig()
    state = CallState(make_call(body=STREAMED_CHAT), rig.state.parsed_usage)
    rig.routing.plan(state)
    assert state.body_without_usage is state.call.body
    assert isinstance(state.body, JsonRequest)
