from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.relay.breaker import Breakers
from headgate.relay.holding import Holding, ModelUnpriced
from headgate.relay.routing import Routing
from headgate.relay.trip import Trip
from tests.fakes.stage import (
    CREDENTIAL,
    FakeCredentials,
    FakeLedger,
    FakeModels,
    ManualClock,
    WalletEmpty,
    make_call,
    make_trip,
)

pytestmark = pytest.mark.anyio

MANAGED = replace(CREDENTIAL, managed=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def hold(
    body: bytes, *, models: FakeModels | None = None, ledger: FakeLedger | None = None
) -> Trip:
    models = models or FakeModels()
    trip = make_trip(make_call(body=body))
    Routing(FakeCredentials(MANAGED), models, Breakers(ManualClock())).plan(trip)
    await Holding(ledger or FakeLedger(), models, ManualClock()).hold(trip)
    return trip


async def test_own_key_holds_nothing() -> None:
    ledger = FakeLedger()
    await Holding(ledger, FakeModels(), ManualClock()).hold(trip := make_trip())
    assert trip.hold is None
    assert not ledger.holds


async def test_managed_call_holds_the_most_that_it_can_cost() -> None:
    body = b'{"model":"gpt-5.4-mini","messages":[]}'
    trip = await hold(body, ledger=(ledger := FakeLedger()))
    assert trip.hold is not None
    assert trip.hold.amount_nano == len(body) + 10 * 500
    assert ledger.holds == [trip.hold]


@pytest.mark.parametrize(("n", "answers"), [(b"3", 3), (b"0", 1), (b"-7", 1), (b"null", 1)])
async def test_every_choice_is_held_for_and_never_less_than_one(n: bytes, answers: int) -> None:
    body = b'{"model":"gpt-5.4-mini","n":%b}' % n
    trip = await hold(body)
    assert trip.hold is not None
    assert trip.hold.amount_nano == len(body) + 10 * 500 * answers


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-5.4-mini","previous_response_id":"resp_1"}',
        b'{"model":"gpt-5.4-mini","input":[{"type":"input_image","image_url":"u"}]}',
        b'{"model":"gpt-5.4-mini","tools":[{"type":"web_search"}]}',
    ],
)
async def test_input_from_elsewhere_is_held_for_as_the_largest(body: bytes) -> None:
    trip = await hold(body)
    assert trip.hold is not None
    assert trip.hold.amount_nano == 1_000 + 10 * 500


async def test_model_without_a_price_is_refused() -> None:
    with pytest.raises(ModelUnpriced) as caught:
        await hold(b'{"model":"gpt-5.4-mini"}', models=FakeModels(is_priced=False))
    assert caught.value.should_retry is False
    with pytest.raises(ModelUnpriced):
        await hold(b'{"model":"unknown"}')


async def test_empty_wallet_leaves_no_hold() -> None:
    ledger = FakeLedger()
    ledger.refusal = WalletEmpty("nothing left")
    models = FakeModels()
    trip = make_trip()
    Routing(FakeCredentials(MANAGED), models, Breakers(ManualClock())).plan(trip)
    with pytest.raises(WalletEmpty):
        await Holding(ledger, models, ManualClock()).hold(trip)
    assert trip.hold is None
