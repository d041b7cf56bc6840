"""What calls for images and about audio are held for, by the rates of the catalog."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.catalog.service.catalog import Catalog
from headgate.kit.http.message import Timeouts
from headgate.llm.usage import Usage
from headgate.relay.media_bounds import bound_image_tokens
from headgate.relay.ports import Model, Price
from headgate.relay.reservation import Reservation, UnpricedModelError
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeLedger,
    FakeModels,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

MANAGED = replace(CREDENTIAL, managed=True)
CATALOG = Catalog.load()
NOW = 1_800_000_000.0
FORM = b"multipart/form-data; boundary=b"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Models(FakeModels):
    """Have one model with this price."""

    def __init__(self, row: PriceRow) -> None:
        super().__init__(Model("m", "m"))
        self.row = row

    def price(self, model_id: str, at: float, integration: str | None = None) -> Price | None:
        return self.row


async def hold(
    path: str, body: bytes, model: Model | None, models: Catalog | Models = CATALOG
) -> int:
    call = make_call(path, body=body)
    if not body.startswith(b"{"):
        call.headers = [(b"content-type", FORM)]
    state = make_state(call)
    state.credential, state.model = MANAGED, model
    await Reservation(FakeLedger(), models, ManualClock(), timeouts=Timeouts()).hold(state)
    assert state.hold is not None
    assert state.output_limit is None
    return state.hold.amount_nano


def make_form(*parts: tuple[str, bytes, bool]) -> bytes:
    body = b""
    for name, value, is_file in parts:
        file = b'; filename="f"' if is_file else b""
        disposition = b'content-disposition: form-data; name="%b"%b' % (name.encode(), file)
        body += b"--b\r\n%b\r\n\r\n%b\r\n" % (disposition, value)
    return body + b"--b--\r\n"


@pytest.mark.parametrize(
    ("quality", "size", "tokens"),
    [
        ("low", "1024x1024", 272),
        ("low", "1024x1536", 408),
        ("medium", "1024x1024", 1_056),
        ("medium", "1536x1024", 1_584),
        ("high", "1024x1024", 4_160),
        ("high", "1536x1024", 6_240),
        ("auto", "auto", 6_240),
        (None, None, 6_240),
        ("hd", "2048x2048", 16_640),
        (7, 9, 6_240),
    ],
)
def test_image_has_at_most_the_tokens_of_its_quality_and_size(
    quality: object, size: object, tokens: int
) -> None:
    assert bound_image_tokens(quality, size) == tokens


@pytest.mark.parametrize(
    ("fields", "images"),
    [
        ({}, 1),
        ({"n": 4}, 4),
        ({"n": 0}, 1),
        ({"n": -3}, 1),
        ({"n": None}, 1),
    ],
)
async def test_images_are_held_by_the_tokens_of_each(
    fields: dict[str, object], images: int
) -> None:
    model = CATALOG.find("gpt-image-1")
    body = {"model": "gpt-image-1", "prompt": "x", "quality": "high", "size": "1024x1024", **fields}
    amount = await hold("/images/generations", json.dumps(body).encode(), model)
    usage = Usage(input_tokens=1, output_tokens=4_160 * images, output_image_tokens=4_160 * images)
    price = CATALOG.price("gpt-image-1", NOW)
    assert price is not None
    cost = price.cost(usage, None)
    assert cost is not None
    assert cost <= amount <= cost + 50_000


async def test_partial_images_are_held_as_well() -> None:
    model = CATALOG.find("gpt-image-1")
    body = b'{"model":"gpt-image-1","prompt":"","quality":"low","size":"1024x1024"%b}'
    plain = await hold("/images/generations", body % b"", model)
    partial = await hold("/images/generations", body % b',"partial_images":3', model)
    assert partial - plain == 300 * 40_000


@pytest.mark.parametrize("field", ["image", "image[]"])
async def test_images_of_a_form_are_held_as_input(field: str) -> None:
    model = CATALOG.find("gpt-image-1")
    parts = [("model", b"gpt-image-1", False), ("quality", b"low", False)]
    none = await hold("/images/edits", make_form(*parts), model)
    two = await hold(
        "/images/edits", make_form(*parts, (field, b"p" * 99, True), (field, b"q", True)), model
    )
    assert two - none == 2 * 7_337 * 10_000


async def test_number_of_images_in_a_form_counts() -> None:
    model = CATALOG.find("gpt-image-1")
    one = await hold("/images/variations", make_form(("n", b"1", False)), model)
    three = await hold("/images/variations", make_form(("n", b"3", False)), model)
    assert three == one + 2 * 6_240 * 40_000


async def test_price_by_the_image_is_held_for_each() -> None:
    models = Models(PriceRow("x", {"default": [NanoRates(per_image=25)]}))
    body = b'{"model":"m","prompt":"x","n":3}'
    assert await hold("/images/generations", body, models.model, models) == 75


async def test_audio_by_the_minute_is_held_by_the_bytes_of_the_file() -> None:
    model = CATALOG.find("whisper-1")
    body = make_form(("model", b"whisper-1", False), ("file", b"x" * 60_000, True))
    # 60,000 bytes are at most 120 seconds.
    assert await hold("/audio/transcriptions", body, model) == 2 * 6_000_000
    assert await hold("/audio/translations", body, model) == 2 * 6_000_000


async def test_audio_by_tokens_is_held_by_the_limits_of_the_model() -> None:
    model = CATALOG.find("gpt-4o-transcribe")
    body = make_form(("model", b"gpt-4o-transcribe", False), ("file", b"x", True))
    assert await hold("/audio/transcriptions", body, model) == 16_000 * (6_000 + 10_000)


@pytest.mark.parametrize("rates", [NanoRates(per_image=5), NanoRates(input=1)])
async def test_audio_without_a_rate_is_refused(rates: NanoRates) -> None:
    models = Models(PriceRow("x", {"default": [rates]}))
    with pytest.raises(UnpricedModelError):
        await hold("/audio/transcriptions", make_form(("file", b"x", True)), models.model, models)


async def test_images_without_a_rate_are_refused() -> None:
    models = Models(PriceRow("x", {"default": [NanoRates(input=1)]}))
    with pytest.raises(UnpricedModelError):
        await hold("/images/generations", b'{"model":"m","prompt":"x"}', models.model, models)
