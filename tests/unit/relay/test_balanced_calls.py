"""A call tries the credentials of its target in turn, and what they answer decides who is next."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.kit.http.message import Origin
from headgate.relay.ports import Credential
from headgate.relay.targets import Target
from tests.fakes.pipeline import FakeCredentials, Step
from tests.unit.relay.test_fallback import C, Harness, answer, refuse

pytestmark = pytest.mark.anyio

PAIR = Target("gpt-5.4-mini", retries_max=0, credentials=(("a", 1), ("b", 1)))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NamedCredentials(FakeCredentials):
    """Resolve each name to a credential of an own origin."""

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        assert name is not None
        return replace(self.credential, id=name, name=name, origin=Origin("https", name, 443))


def make_harness(*steps: Step, targets: tuple[Target, ...] = (PAIR,)) -> Harness:
    return Harness(*steps, targets=targets, managed=False, credentials=NamedCredentials())


async def run(harness: Harness) -> list[str]:
    """Return the credentials that the call was sent with."""
    before = len(harness.client.sent)
    await harness.run(correlation_id="c1")
    return [each.origin.host for each in harness.client.sent[before:]]


async def test_a_call_goes_on_to_the_other_credential() -> None:
    harness = make_harness(refuse(401, "invalid_api_key"), answer())
    first, second = await run(harness)
    assert {first, second} == {"a", "b"}
    assert harness.caller.status == 200
    (event,) = harness.encoder.events
    assert event.startswith("gpt-5.4-mini 401 1")


async def test_a_faulty_request_is_not_sent_with_the_other_credential() -> None:
    harness = make_harness(refuse(400, "bad"), answer())
    assert len(await run(harness)) == 1
    assert harness.caller.status == 400
    other = make_harness(
        refuse(400, "bad"), answer(), targets=(PAIR, replace(C, credential_name="c"))
    )
    assert (await run(other))[1:] == ["c"]


async def test_a_credential_that_keeps_failing_is_left_out() -> None:
    harness = make_harness(*[refuse(500, "server_error"), answer()] * 5, answer())
    preferred, other = await run(harness)
    for _ in range(4):
        assert await run(harness) == [preferred, other]
    assert await run(harness) == [other]
    harness.clock.seconds += 30
    assert await run(harness) == [preferred]


async def test_a_rate_limited_credential_rests_for_the_time_that_it_asks() -> None:
    busy = refuse(429, "rate_limited")
    busy.headers.append((b"retry-after", b"7"))
    harness = make_harness(busy, answer())
    preferred, other = await run(harness)
    assert await run(harness) == [other]
    harness.clock.seconds += 7
    assert await run(harness) == [preferred]
