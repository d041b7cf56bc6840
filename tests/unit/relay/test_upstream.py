from __future__ import annotations

import asyncio
import contextlib
import email.utils
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError
from headgate.kit.http import errors as egress
from headgate.kit.http.message import Headers, Timeouts
from headgate.relay.breaker import Breakers, CircuitOpenError
from headgate.relay.deadlines import make_deadlines
from headgate.relay.ports import OPERATOR
from headgate.relay.retry import RetryPolicy
from headgate.relay.upstream import (
    InvalidProviderResponseError,
    ProviderTimeoutError,
    ProviderUnreachableError,
    Upstream,
    UpstreamResponse,
    build_request,
    join_headers,
)
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeClient,
    FakeResponse,
    ManualClock,
    Step,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

STALE = egress.DisconnectedError("stale", reused=True)
QUOTA = b'{"error":{"code":"insufficient_quota","message":"no money"}}'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rig:
    """Run an upstream in virtual time, and record how long it waited."""

    def __init__(self, *steps: Step, failures: int = 0) -> None:
        """Let `failures` in a row open the breaker; 0 is never."""
        self.clock = ManualClock()
        self.breakers = Breakers(self.clock, failures=failures, open_seconds=30)
        self.client = FakeClient(*steps)
        self.waits: list[float] = []
        self.upstream = Upstream(
            self.client,
            policy=RetryPolicy(),
            timeouts=Timeouts(total_seconds=600),
            breakers=self.breakers,
            clock=self.clock,
            draw=lambda: 0.5,
        )
        self.state = make_state()

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await self.clock.sleep(seconds)

    async def send(self) -> UpstreamResponse:
        return await self.upstream.send(self.state, self.sleep)


def fault(status: int, headers: Headers | None = None, body: bytes = b"{}") -> FakeResponse:
    return FakeResponse(status, headers, body)


async def test_good_answer_is_passed_on_after_one_attempt() -> None:
    rig = Rig(response := FakeResponse(200))
    answer = await rig.send()
    assert answer.response is response
    assert (rig.state.attempts, rig.state.was_sent, rig.waits) == (1, True, [])


async def test_request_goes_to_the_origin_of_its_credential() -> None:
    rig = Rig(FakeResponse(200))
    rig.state.credential = msgspec.structs.replace(CREDENTIAL, purpose=OPERATOR)
    await rig.send()
    assert rig.client.sent[0].purpose == OPERATOR


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_refusal_that_time_heals_is_retried_with_growing_jittered_waits(status: int) -> None:
    rig = Rig(fault(status), fault(status), FakeResponse(200))
    answer = await rig.send()
    assert answer.status == 200
    assert rig.state.attempts == 3
    assert rig.waits == [0.5, 1.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
async def test_refusal_of_the_request_is_passed_on_unread(status: int) -> None:
    rig = Rig(fault(status))
    answer = await rig.send()
    assert (answer.status, answer.body, answer.final) == (status, None, False)
    assert rig.state.attempts == 1


async def test_exhausted_retries_ask_for_no_retry() -> None:
    rig = Rig(fault(503, body=b"down"))
    answer = await rig.send()
    assert (answer.status, answer.body, answer.final) == (503, b"down", True)
    assert rig.state.attempts == 3
    assert not rig.state.was_sent


@pytest.mark.parametrize(("wanted", "attempts"), [(0, 1), (1, 2), (9, 3)])
async def test_client_may_want_fewer_retries_but_no_more(wanted: int, attempts: int) -> None:
    rig = Rig(fault(503))
    rig.state.call.retries_max = wanted
    answer = await rig.send()
    assert (answer.status, answer.final, rig.state.attempts) == (503, True, attempts)


async def test_spent_quota_is_not_retried() -> None:
    rig = Rig(fault(429, body=QUOTA))
    answer = await rig.send()
    assert (rig.state.attempts, answer.final) == (1, True)


@pytest.mark.parametrize(
    ("headers", "sleep"),
    [
        ([(b"retry-after", b"2")], 2.5),
        ([(b"retry-after", b"1.5")], 2.0),
        ([(b"retry-after-ms", b"120"), (b"retry-after", b"9")], 0.62),
        ([(b"x-ratelimit-reset-requests", b"120ms")], 0.62),
        ([(b"x-ratelimit-reset-requests", b"1s"), (b"x-ratelimit-reset-tokens", b"3s")], 3.5),
        ([(b"retry-after", b"1"), (b"x-ratelimit-reset-tokens", b"6m0s")], 1.5),
        ([(b"retry-after", b"0")], 0.5),
        ([(b"retry-after", b"soon")], 0.5),
        ([(b"retry-after", b"-1")], 0.5),
        ([(b"x-ratelimit-reset-tokens", b"a while")], 0.5),
    ],
)
async def test_wait_is_what_the_provider_advises_else_the_backoff(
    headers: Headers, sleep: float
) -> None:
    rig = Rig(fault(429, headers), FakeResponse(200))
    assert (await rig.send()).status == 200
    assert rig.waits == [pytest.approx(sleep)]  # pyright: ignore[reportUnknownMemberType]


async def test_date_to_retry_at_is_understood() -> None:
    rig = Rig()
    date = email.utils.formatdate(rig.clock.now() + 2, usegmt=True).encode()
    rig = Rig(fault(503, [(b"retry-after", date)]), FakeResponse(200))
    await rig.send()
    assert 1.5 <= rig.waits[0] <= 2.5


@pytest.mark.parametrize(
    "header",
    [
        (b"retry-after", b"30"),
        (b"retry-after-ms", b"30000"),
        (b"x-ratelimit-reset-requests", b"59.5s"),
        (b"x-ratelimit-reset-tokens", b"20s"),
    ],
)
async def test_long_wait_is_left_to_the_client(header: tuple[bytes, bytes]) -> None:
    rig = Rig(fault(429, [header]))
    answer = await rig.send()
    assert (rig.state.attempts, answer.final, rig.waits) == (1, False, [])
    assert answer.headers == [header]


@pytest.mark.parametrize(
    "header",
    [
        (b"retry-after", b"61"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
        (b"x-ratelimit-reset-requests", b"1m30s"),
    ],
)
async def test_wait_over_the_maximum_asks_for_no_retry(
    header: tuple[bytes, bytes],
) -> None:
    rig = Rig(fault(429, [header]))
    answer = await rig.send()
    assert (rig.state.attempts, answer.final, answer.headers) == (1, True, [header])


async def test_retries_left_to_the_client_use_the_same_budget() -> None:
    rig = Rig(fault(503, [(b"retry-after", b"30")]))
    left: list[bool] = []
    for _ in range(100):
        rig.state = make_state()
        left.append(not (await rig.send()).final)
    assert left.count(True) <= 0.2 * 100 + RetryPolicy().budget_floor_per_second


async def test_reset_of_a_rate_means_nothing_for_a_server_error() -> None:
    rig = Rig(fault(500, [(b"x-ratelimit-reset-tokens", b"6m0s")]), FakeResponse(200))
    assert (await rig.send()).status == 200
    assert rig.waits == [0.5]


async def test_provider_that_forbids_a_retry_is_obeyed() -> None:
    rig = Rig(fault(500, [(b"x-should-retry", b"false")]))
    answer = await rig.send()
    assert (rig.state.attempts, answer.final) == (1, True)


@pytest.mark.parametrize("status", [400, 409, 429])
async def test_provider_that_asks_for_a_retry_is_obeyed(status: int) -> None:
    rig = Rig(fault(status, [(b"x-should-retry", b"true")], QUOTA), FakeResponse(200))
    assert (await rig.send()).status == 200


async def test_retries_keep_to_their_budget_however_many_calls_fail() -> None:
    rig = Rig(fault(503))
    calls = 100
    for _ in range(calls):
        rig.state = make_state()
        await rig.upstream.send(rig.state, _no_time)
    floor = RetryPolicy().budget_floor_per_second
    assert calls < len(rig.client.sent) <= 1.2 * calls + floor


async def _no_time(_seconds: float) -> None:
    pass


async def test_no_connection_is_retried_and_was_never_sent() -> None:
    rig = Rig(egress.ConnectError("no"), FakeResponse(200))
    assert (await rig.send()).status == 200
    rig = Rig(egress.ConnectTimeoutError("no"))
    with pytest.raises(ProviderUnreachableError) as caught:
        await rig.send()
    assert caught.value.should_retry is False
    assert rig.state.attempts == 3
    assert not rig.state.was_sent


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (egress.DisconnectedError("lost"), InvalidProviderResponseError),
        (egress.FirstByteTimeoutError("late"), ProviderTimeoutError),
        (egress.TotalTimeoutError("late"), ProviderTimeoutError),
        (egress.MalformedResponseError("noise"), InvalidProviderResponseError),
        (egress.ResponseHeadTooLargeError("much"), InvalidProviderResponseError),
    ],
)
async def test_call_that_was_sent_and_lost_is_never_made_again(
    error: egress.EgressError, told: type[HeadgateError]
) -> None:
    rig = Rig(error)
    with pytest.raises(told) as caught:
        await rig.send()
    assert caught.value.should_retry is False
    assert rig.state.attempts == 1
    assert rig.state.was_sent


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_request_whose_kept_connection_ended_may_have_been_done(method: str) -> None:
    rig = Rig(STALE, FakeResponse(200))
    rig.state = make_state(msgspec.structs.replace(make_call(), method=method))
    with pytest.raises(InvalidProviderResponseError) as caught:
        await rig.send()
    assert caught.value.should_retry is False
    assert len(rig.client.sent) == 1
    assert (rig.state.attempts, rig.state.was_sent) == (1, True)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_request_whose_kept_connection_ended_is_sent_again_and_counted(
    method: str,
) -> None:
    rig = Rig(STALE, FakeResponse(200))
    rig.state = make_state(msgspec.structs.replace(make_call(), method=method))
    assert (await rig.send()).status == 200
    assert (rig.state.attempts, rig.waits) == (2, [])


@pytest.mark.parametrize(
    "error",
    [
        egress.DisconnectedError("gone before it left"),
        egress.TotalTimeoutError.unsent("no connection in time"),
        egress.ConnectTimeoutError("no connection in time"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_request_that_was_never_sent_is_reported_as_unreachable(
    error: egress.EgressError,
) -> None:
    error.sent = False
    rig = Rig(*[error] * 3)
    with pytest.raises(ProviderUnreachableError, match="nothing was sent"):
        await rig.send()
    assert not rig.state.was_sent


async def test_request_that_never_left_is_sent_again_whatever_it_is() -> None:
    unsent = egress.DisconnectedError("gone before it left", reused=True)
    unsent.sent = False
    rig = Rig(unsent, FakeResponse(200))
    assert rig.state.call.method == "POST"
    assert (await rig.send()).status == 200
    assert (rig.state.attempts, rig.waits) == (2, [])


async def test_kept_connections_that_keep_ending_are_an_error() -> None:
    rig = Rig(STALE)
    rig.state = make_state(msgspec.structs.replace(make_call(), method="GET"))
    with pytest.raises(InvalidProviderResponseError):
        await rig.send()
    assert len(rig.client.sent) == rig.state.attempts == 3
    assert rig.state.was_sent


async def test_new_connection_that_ended_is_not_retried() -> None:
    rig = Rig(egress.DisconnectedError("gone"))
    rig.state = make_state(msgspec.structs.replace(make_call(), method="GET"))
    with pytest.raises(InvalidProviderResponseError):
        await rig.send()
    assert rig.state.attempts == 1


@pytest.mark.parametrize(
    "step",
    [fault(503), egress.ConnectError("no"), STALE],
    ids=["refused", "unreached", "stale"],
)
async def test_body_that_streams_is_sent_once(step: Step) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"piece"

    rig = Rig(step)
    rig.state = make_state(make_call("/files", body=body()))
    try:
        answer = await rig.send()
    except HeadgateError:
        pass
    else:
        assert not answer.final, "the client has the body, and may send it again"
    assert len(rig.client.sent) == 1


async def test_total_deadline_spans_all_attempts() -> None:
    rig = Rig(fault(503, [(b"retry-after", b"4")]), fault(503), FakeResponse(200))
    await rig.send()
    totals = [request.timeouts.total_seconds for request in rig.client.sent]
    assert totals[0] == 600
    assert totals[1] == 600 - sum(rig.waits[:1])
    assert totals[2] == 600 - sum(rig.waits)


async def test_no_retry_begins_that_the_total_deadline_would_cut() -> None:
    async def slow_refusal(_request: object) -> FakeResponse:
        rig.clock.seconds += 599.9
        return fault(503)

    rig = Rig(slow_refusal)
    answer = await rig.send()
    assert (rig.state.attempts, answer.final) == (1, True)


async def test_disconnect_between_two_attempts_ends_the_wait() -> None:
    rig = Rig(fault(503))
    sleeping = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        sleeping.set()
        await asyncio.Event().wait()

    sending = asyncio.create_task(rig.upstream.send(rig.state, sleep))
    await sleeping.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert len(rig.client.sent) == 1
    assert not rig.state.was_sent


async def test_refusal_whose_body_breaks_off_is_an_unknown_outcome() -> None:
    rig = Rig(FakeResponse(500, body=egress.DisconnectedError("cut")))
    with pytest.raises(InvalidProviderResponseError):
        await rig.send()
    assert rig.state.was_sent


async def test_errors_name_no_address_of_the_provider() -> None:
    rig = Rig(egress.ConnectError("Cannot connect to https://api.openai.com:443"))
    with pytest.raises(ProviderUnreachableError) as caught:
        await rig.send()
    assert "openai" not in caught.value.message


async def fail_calls(rig: Rig, calls: int) -> None:
    """Make calls that fail, with all their attempts."""
    for _ in range(calls):
        rig.state = make_state()
        with contextlib.suppress(HeadgateError):
            await rig.send()


@pytest.mark.parametrize(
    "step",
    [
        *(fault(status) for status in (500, 502, 503, 504, 529)),
        egress.ConnectError("no"),
        egress.ConnectTimeoutError("no"),
        egress.TlsError("no"),
        egress.FirstByteTimeoutError("late"),
        egress.DisconnectedError("lost"),
        egress.MalformedResponseError("noise"),
        FakeResponse(503, body=egress.IdleTimeoutError("stalled")),
    ],
    ids=lambda step: f"{getattr(step, 'status', '')}{type(step).__name__}",
)
async def test_provider_that_failed_five_times_in_a_row_is_asked_no_more(step: Step) -> None:
    rig = Rig(step, failures=5)
    await fail_calls(rig, 4)
    assert rig.breakers.open == 0, "calls count, not their attempts"
    await fail_calls(rig, 1)
    asked = len(rig.client.sent)
    rig.state = make_state()
    with pytest.raises(CircuitOpenError) as caught:
        await rig.send()
    assert len(rig.client.sent) == asked
    assert caught.value.should_retry is False
    assert caught.value.retry_after_seconds is not None
    assert 0 < caught.value.retry_after_seconds <= 30
    assert rig.state.attempts == 0
    assert not rig.state.was_sent


@pytest.mark.parametrize(
    "step",
    [
        *(fault(status) for status in (400, 401, 404, 408, 413, 429, 501)),
        fault(400, [(b"x-should-retry", b"true")]),
        egress.PoolExhaustedError("busy"),
        egress.ForbiddenAddressError("not with this credential"),
        STALE,
    ],
    ids=lambda step: f"{getattr(step, 'status', '')}{type(step).__name__}",
)
async def test_other_failures_do_not_open_the_breaker(step: Step) -> None:
    rig = Rig(step, failures=5)
    await fail_calls(rig, 30)
    assert rig.breakers.open == 0


async def test_time_outs_open_the_breaker_of_one_model_and_failed_connects_that_of_all() -> None:
    rig = Rig(egress.FirstByteTimeoutError("late"), failures=2)
    await fail_calls(rig, 2)
    other = make_state(make_call(body=b'{"model":"gpt-5.4","messages":[]}'))
    rig.client.steps[:] = [FakeResponse(200)]
    assert (await rig.upstream.send(other, rig.sleep)).status == 200
    rig.client.steps[:] = [egress.ConnectError("no")]
    for _ in range(2):
        with pytest.raises(ProviderUnreachableError):
            await rig.upstream.send(other, rig.sleep)
    for body in (b'{"model":"gpt-5","messages":[]}', b'{"model":"gpt-5.4","messages":[]}'):
        with pytest.raises(CircuitOpenError):
            await rig.upstream.send(make_state(make_call(body=body)), rig.sleep)


async def test_slow_upload_is_no_failure_of_the_provider() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"piece"

    rig = Rig(egress.TotalTimeoutError("late"), failures=1)
    rig.state = make_state(make_call("/files", body=body()))
    with pytest.raises(ProviderTimeoutError):
        await rig.send()
    assert rig.breakers.open == 0


async def test_breaker_that_opens_during_a_wait_ends_the_retries_with_what_was_answered() -> None:
    rig = Rig(fault(503, body=b"down"), failures=5)

    async def rest_while_others_fail(seconds: float) -> None:
        await rig.sleep(seconds)
        for _ in range(5):
            rig.breakers.fail(CREDENTIAL, rig.state.call.model, ())

    answer = await rig.upstream.send(rig.state, rest_while_others_fail)
    assert (answer.status, answer.body, answer.final) == (503, b"down", True)
    assert rig.state.attempts == 1


async def test_probe_that_succeeds_closes_the_breaker_for_all() -> None:
    rig = Rig(fault(503), fault(503), FakeResponse(200), failures=2)
    await fail_calls(rig, 2)
    rig.clock.seconds += 30
    for _ in range(3):
        rig.state = make_state()
        assert (await rig.send()).status == 200
    assert len(rig.breakers) == 0


async def test_probe_is_not_retried_and_the_provider_rests_again() -> None:
    rig = Rig(fault(503), failures=2)
    await fail_calls(rig, 2)
    rig.clock.seconds += 30
    rig.state = make_state()
    rig.waits.clear()
    answer = await rig.send()
    assert (answer.status, answer.final, rig.state.attempts) == (503, True, 1)
    assert rig.waits == [], "the caller does not wait for what will not be tried"
    with pytest.raises(CircuitOpenError):
        await rig.send()


async def test_probe_of_a_disconnected_caller_is_released() -> None:
    rig = Rig(fault(503), failures=2)
    await fail_calls(rig, 2)
    rig.clock.seconds += 30
    begun = asyncio.Event()

    async def hang(_request: object) -> FakeResponse:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    rig.client.steps[:] = [hang]
    rig.state = make_state()
    probing = asyncio.create_task(rig.send())
    await begun.wait()
    with pytest.raises(CircuitOpenError):
        rig.breakers.check(CREDENTIAL, rig.state.call.model)
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    with pytest.raises(CircuitOpenError):
        rig.breakers.check(CREDENTIAL, rig.state.call.model)
    rig.clock.seconds += 30
    rig.breakers.check(CREDENTIAL, rig.state.call.model)


async def test_disconnect_before_a_connection_counts_as_unsent() -> None:
    async def wait_for_a_connection(_request: object) -> FakeResponse:
        raise egress.ConnectCancelledError

    rig = Rig(wait_for_a_connection)
    with pytest.raises(asyncio.CancelledError):
        await rig.send()
    assert (rig.state.attempts, rig.state.was_sent) == (1, False)


@pytest.mark.parametrize(("own", "caller", "expected"), [(9, 2, 2), (2, 9, 2), (None, 9, 9)])
def test_shortest_deadline_holds(own: float | None, caller: float, expected: float) -> None:
    state = make_state()
    state.credential = replace(CREDENTIAL, deadlines=make_deadlines(None, None, own))
    state.call.deadline_seconds = caller
    timeouts = build_request(state, Timeouts(1, 600, 600, 3600)).timeouts
    assert timeouts == Timeouts(1, caller, caller, expected)


def test_callers_account_headers_do_not_go_out_with_a_managed_credential() -> None:
    given = [(b"openai-organization", b"org-x"), (b"openai-project", b"proj-x"), (b"x-a", b"1")]
    own = CREDENTIAL.headers
    assert join_headers(given, CREDENTIAL) == given + own
    assert join_headers(given, replace(CREDENTIAL, managed=True)) == [(b"x-a", b"1"), *own]


def test_credential_header_replaces_the_clients() -> None:
    credential = replace(CREDENTIAL, headers=[(b"x-proxy-key", b"secret")])
    given = [(b"x-proxy-key", b"of the caller"), (b"x-a", b"1")]
    assert join_headers(given, credential) == [(b"x-a", b"1"), (b"x-proxy-key", b"secret")]
