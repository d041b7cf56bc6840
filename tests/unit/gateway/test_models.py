from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from headgate.catalog.service.catalog import Catalog
from headgate.gateway import listing
from headgate.gateway.catalog_models import CatalogModels
from headgate.gateway.listing import ModelNotListedError
from headgate.gateway.model_metadata import FIELD, MetadataCatalog, ModelMetadata, format_rate
from headgate.gateway.models import (
    LIST_BYTES_MAX,
    LISTS_MAX,
    RENDERED_SECONDS,
    ROWS_MAX,
    ModelsBackend,
    ModelsCall,
    ModelsEncoder,
    parse_list_options,
)
from headgate.gateway.resource_models import ListedResources
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.kit.rate_limiter import RateLimit
from headgate.llm.providers.openai import PROVIDER
from headgate.llm.usage import ParsedUsage, Usage
from headgate.metering.model import Latency
from headgate.relay.call_state import CallState
from headgate.relay.ports import Credential, Grant, ManagedModelRoute
from headgate.relay.targets import CallRoute, Target
from headgate.relay.upstream import InvalidProviderResponseError, UpstreamResponse
from tests.fakes.pipeline import (
    CREDENTIAL,
    GRANT,
    FakeCredentials,
    FakeManagedModelRoutes,
    FakeResponse,
    ManualClock,
    make_call,
)

pytestmark = pytest.mark.anyio

GOLDEN = Path(__file__).parents[2] / "golden" / "models"
MINI, NANO = "gpt-5.4-mini", "gpt-5.4-nano"
KEPT_SECONDS = 300.0
CATALOG = Catalog.load()
LIST = (
    b'{ "object":"list","data":[ {"id":"gpt-5.4-mini","created":1.50},'
    b'{"id":"ft:own" , "novel":[1 ,2]} ],"novel": 1.50 }'
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rates(msgspec.Struct, frozen=True):
    above_input_tokens: int = -1
    input: int | None = None
    cached_input: int | None = None
    output: int | None = None
    tool_calls: Mapping[str, int] = {}


class Row(msgspec.Struct, frozen=True):
    id: str
    tiers: Mapping[str, Sequence[Rates]]


class Entry(msgspec.Struct, frozen=True):
    display_name: str = "Mini"
    input_tokens_max: int = 400_000
    output_limit: int | None = None
    dimensions: int = 1536
    data_freshness: datetime.date | None = datetime.date(2025, 8, 31)
    supports_vision: bool = True
    capabilities: tuple[str, ...] = ("text", "tools")
    deprecated: bool = True
    replacement_id: str | None = NANO


class SmallCatalog:
    """A catalog of one model, whose facts and rates are of every kind."""

    def entry(self, integration: str, model_id: str) -> Entry | None:
        return Entry() if (integration, model_id) == ("openai", MINI) else None

    def find(self, model_id: str, integration: str | None = None) -> None:
        return None

    def price(self, model_id: str, at: float, integration: str | None = None) -> Row:
        long = Rates(272_000, 1_500_000_000, None, 9_000_000_000)
        plain = Rates(-1, 750_000_000, 75_000_000, 4_500_000_000, {"web_search_call": 10_000_000})
        return Row("row_1", {"default": (long, plain), "flex": (Rates(-1, 375_000_000),)})


class FakeUpstream:
    """A provider that answers every call with the same body."""

    def __init__(self) -> None:
        self.asked: list[CallState] = []
        self.body = LIST
        self.status = 200
        self.headers: Headers = [(b"etag", b'"1"'), (b"openai-version", b"1")]

    async def send(self, state: CallState, sleep: Any = None) -> UpstreamResponse:
        self.asked.append(state)
        state.attempts += 1
        return UpstreamResponse(self.status, list(self.headers), FakeResponse(), body=self.body)


class ModelsHarness:
    """`ModelsBackend` between a provider and callers, as the pipeline would drive it."""

    def __init__(
        self,
        managed_routes: FakeManagedModelRoutes | None = None,
        *,
        catalog: MetadataCatalog | None = None,
        cache_seconds: float = KEPT_SECONDS,
        hidden: Mapping[str, frozenset[str]] | None = None,
        known: Catalog = CATALOG,
        credentials: FakeCredentials | None = None,
        resources: ListedResources | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.upstream = FakeUpstream()
        self.latencies: dict[tuple[str, str], Latency] = {}
        hidden = hidden or {}
        metadata = ModelMetadata(catalog or CATALOG, self.find_latency, self.clock)
        self.models = ModelsBackend(
            self.upstream,
            metadata,
            managed_routes or FakeManagedModelRoutes(),
            CatalogModels(known, credentials or FakeCredentials(), metadata, self.clock),
            clock=self.clock,
            cache_seconds=cache_seconds,
            find_hidden=lambda organization_id: hidden.get(organization_id, frozenset()),
            resources=resources,
        )
        self.encoder = ModelsEncoder(PROVIDER, 60.0, self.clock, self.models)
        self.head = b""

    def find_latency(self, credential_id: str, model_id: str) -> Latency | None:
        return self.latencies.get((credential_id, model_id))

    async def ask(
        self,
        path: str = "/models",
        *,
        grant: Grant = GRANT,
        credential: Credential = CREDENTIAL,
        method: str = "GET",
        query: bytes = b"",
        headers: Headers | None = None,
        credential_name: str | None = None,
        rate_limits: tuple[RateLimit, ...] = (),
    ) -> bytes:
        call = make_call(path, body=b"", method=method, grant=grant)
        call.rate_limits = rate_limits
        call.query, call.credential_name = query, credential_name
        state = CallState(
            parse_list_options(call, headers or []), ParsedUsage(), credential=credential
        )
        answer = await self.models.send(state)
        assert answer.body is not None
        body = answer.body if answer.status >= 400 else self.encoder.encode_body(state, answer.body)
        self.head = self.encoder.encode_head(state, answer, None)
        return body

    async def list(self, **more: Any) -> dict[str, dict[str, Any]]:
        """Return the metadata of the listed models by id."""
        rows = json.loads(await self.ask(**more))["data"]
        return {row["id"]: row[FIELD] for row in rows}

    @property
    def source(self) -> str:
        """What the last answer said of its source."""
        lines = dict(line.split(b": ") for line in self.head.splitlines())
        return lines[b"x-headgate-cache-status"].decode()


@pytest.fixture
def harness() -> ModelsHarness:
    return ModelsHarness()


async def test_model_keeps_its_bytes_and_gains_one_field(harness: ModelsHarness) -> None:
    body = await harness.ask()
    assert body.startswith(
        b'{"object":"list","data":[{"id":"gpt-5.4-mini","created":1.50,"headgate":{'
    )
    assert b',{"id":"ft:own" , "novel":[1 ,2],"headgate":{' in body
    assert body.endswith(b'}],"novel":1.50}')


async def test_metadata_matches_the_golden_file() -> None:
    harness = ModelsHarness(catalog=SmallCatalog())
    harness.latencies["cred_1", MINI] = Latency(412, 2005, 37)
    metadata = (await harness.list())[MINI]
    assert json.dumps(metadata, indent=2) + "\n" == (GOLDEN / "card.json").read_text()


async def test_metadata_of_an_unknown_model_has_null_values(harness: ModelsHarness) -> None:
    assert (await harness.list())["ft:own"] == {
        "display_name": "ft:own",
        "provider": "openai",
        "managed": False,
        "price": None,
        "latency": {"band": None, "p50_ms": None, "p95_ms": None, "samples": 0},
        "capabilities": {},
        "context": None,
        "deprecation": None,
    }


@pytest.mark.parametrize("tier", ["default", "flex", "priority", "batch"])
@pytest.mark.parametrize("model", [MINI, "gpt-5.4", "o3", "text-embedding-3-large", "gpt-4o"])
@pytest.mark.parametrize("input_tokens", [1_000_000, 10])
async def test_price_in_the_metadata_is_what_a_call_costs(
    harness: ModelsHarness, model: str, tier: str, input_tokens: int
) -> None:
    """The rates of the metadata give the cost that billing charges."""
    harness.upstream.body = b'{"data":[{"id":"%b"}]}' % model.encode()
    price = (await harness.list())[model]["price"]
    row = CATALOG.price(model, harness.clock.now())
    assert row is not None
    assert price["id"] == row.id
    plain = {"service_tier": "default", **price}
    steps = [each for each in (plain, *price["tiers"]) if each["service_tier"] == tier]
    usage = Usage(input_tokens=input_tokens, cached_tokens=4, output_tokens=7)
    cost = row.cost(usage, tier)
    if not steps:
        assert cost is None
        return
    thresholds = {int(step.get("above_input_tokens", -1)): step for step in steps}
    step = thresholds[max(each for each in thresholds if input_tokens > each)]
    if "output" not in step:
        assert cost is None
        return
    dollars = (
        (input_tokens - 4) * float(step["input"])
        + 4 * float(step["cached_input"])
        + 7 * float(step["output"])
    )
    assert cost == pytest.approx(dollars * 1000, abs=1)


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0"), (750_000_000, "0.75"), (30_000_000_000, "30"), (1, "0.000000001"), (10**9, "1")],
)
def test_rate_is_the_shortest_decimal_string(nano: int, text: str) -> None:
    assert format_rate(nano) == text


async def test_second_list_makes_no_upstream_call(harness: ModelsHarness) -> None:
    first = await harness.ask()
    assert (harness.source, b"openai-version: 1\r\n" in harness.head) == ("miss", True)
    assert await harness.ask() == first
    assert harness.source == "hit"
    assert b"x-headgate-retries: 0\r\n" in harness.head
    assert b"content-type: application/json\r\n" in harness.head
    assert len(harness.upstream.asked) == 1
    harness.clock.seconds += KEPT_SECONDS
    await harness.ask()
    assert (harness.source, len(harness.upstream.asked)) == ("miss", 2)


async def test_headers_that_describe_the_providers_body_are_left_out(
    harness: ModelsHarness,
) -> None:
    await harness.ask()
    assert b"etag" not in harness.head
    await harness.ask(headers=[(b"x-headgate-raw", b"true")])
    assert b"etag" not in harness.head


@pytest.mark.parametrize(
    "options",
    [
        {"query": b"?refresh=true"},
        {"query": b"?refresh=1"},
        {"headers": [(b"cache-control", b"max-age=0")]},
        {"headers": [(b"cache-control", b"private, No-Cache")]},
    ],
)
async def test_refresh_calls_the_provider_and_renews_the_cache(
    harness: ModelsHarness, options: dict[str, Any]
) -> None:
    await harness.ask()
    harness.upstream.body = b'{"data":[{"id":"new"}]}'
    assert list(await harness.list(**options)) == ["new"]
    assert harness.upstream.asked[-1].call.query == b""
    assert (list(await harness.list()), harness.source) == (["new"], "hit")


@pytest.mark.parametrize("query", [b"?", b"?refresh=false", b"?refresh"])
async def test_query_without_a_refresh_uses_the_cache(harness: ModelsHarness, query: bytes) -> None:
    await harness.ask()
    await harness.ask(query=query)
    assert harness.source == "hit"


async def test_query_of_the_provider_is_forwarded_and_its_list_not_cached(
    harness: ModelsHarness,
) -> None:
    await harness.ask(query=b"?after=x&limit=2")
    await harness.ask(query=b"?after=x&refresh=true&b=%20")
    assert [state.call.query for state in harness.upstream.asked] == [
        b"?after=x&limit=2",
        b"?after=x&b=+",
    ]
    await harness.ask()
    assert harness.source == "miss"


async def test_changed_credential_has_no_cached_list(harness: ModelsHarness) -> None:
    await harness.ask()
    await harness.ask(credential=replace(CREDENTIAL, base_path=b"/other"))
    assert harness.source == "miss"
    await harness.ask(credential=replace(CREDENTIAL, id="cred_2"))
    assert harness.source == "miss"


async def test_nothing_is_cached_with_zero_cache_seconds() -> None:
    harness = ModelsHarness(cache_seconds=0)
    for _ in range(2):
        await harness.ask()
        assert harness.source == "miss"


async def test_number_of_cached_lists_is_bounded(harness: ModelsHarness) -> None:
    for number in range(LISTS_MAX + 1):
        await harness.ask(credential=replace(CREDENTIAL, id=f"cred_{number}"))
    await harness.ask(credential=replace(CREDENTIAL, id="cred_1"))
    assert harness.source == "hit"
    await harness.ask(credential=replace(CREDENTIAL, id="cred_0"))
    assert harness.source == "miss"


async def test_long_list_is_returned_and_not_cached(harness: ModelsHarness) -> None:
    harness.upstream.body = b'{"data":[{"id":"a","x":"%b"}]}' % (b"x" * LIST_BYTES_MAX)
    assert list(await harness.list()) == ["a"]
    await harness.ask()
    assert harness.source == "miss"


async def test_list_of_very_many_models_has_no_metadata(harness: ModelsHarness) -> None:
    rows = b",".join(b'{"id":"m%d"}' % number for number in range(ROWS_MAX + 1))
    harness.upstream.body = b'{"data":[%b]}' % rows
    assert await harness.ask() == harness.upstream.body


async def test_metadata_of_a_cached_list_is_rendered_again(harness: ModelsHarness) -> None:
    await harness.ask()
    harness.latencies["cred_1", MINI] = Latency(1000, 1000, 1)
    assert (await harness.list())[MINI]["latency"]["band"] is None
    harness.clock.seconds += RENDERED_SECONDS
    assert (await harness.list())[MINI]["latency"]["band"] == "standard"
    assert harness.source == "hit"


async def test_key_sees_only_its_models_of_a_cached_list(harness: ModelsHarness) -> None:
    limited = replace(GRANT, models=("ft:*",))
    assert list(await harness.list(grant=limited)) == ["ft:own"]
    assert list(await harness.list(grant=limited)) == ["ft:own"]
    assert harness.source == "hit"
    assert list(await harness.list()) == [MINI, "ft:own"]


async def test_hidden_models_are_not_listed() -> None:
    harness = ModelsHarness(hidden={"org_1": frozenset({MINI})})
    assert list(await harness.list()) == ["ft:own"]
    with pytest.raises(ModelNotListedError, match=MINI) as refused:
        await harness.ask(f"/models/{MINI}")
    assert refused.value.param == "model"
    other = replace(GRANT, organization_id="org_2")
    assert list(await harness.list(grant=other)) == [MINI, "ft:own"]


@pytest.mark.parametrize("body", [b"[]", b'{"data":{}}', b'{"data":[{"name":"x"}]}', b"<html>"])
async def test_unreadable_list_passes_for_an_unlimited_key(
    harness: ModelsHarness, body: bytes
) -> None:
    harness.upstream.body = body
    assert await harness.ask() == body
    await harness.ask()
    assert harness.source == "miss"
    with pytest.raises(InvalidProviderResponseError):
        await harness.ask(grant=replace(GRANT, models=("gpt-*",)))
    hiding = ModelsHarness(hidden={"org_1": frozenset({"x"})})
    hiding.upstream.body = body
    with pytest.raises(InvalidProviderResponseError):
        await hiding.ask()


async def test_raw_list_equals_the_providers_byte_for_byte(harness: ModelsHarness) -> None:
    options: dict[str, Any] = {"headers": [(b"x-headgate-raw", b"true")]}
    assert await harness.ask(**options) == LIST
    assert await harness.ask(**options) == LIST
    assert len(harness.upstream.asked) == 2
    body = await harness.ask(grant=replace(GRANT, models=("ft:*",)), **options)
    assert body == b'{"object":"list","data":[{"id":"ft:own" , "novel":[1 ,2]}],"novel":1.50}'
    harness.upstream.body = b'{"id":"x"}'
    assert await harness.ask("/models/x", **options) == b'{"id":"x"}'


async def test_single_model_has_the_providers_fields_and_metadata(harness: ModelsHarness) -> None:
    harness.upstream.body = b'{"id":"gpt-5.4-mini", "owned_by":"x" }\n'
    body = await harness.ask(f"/models/{MINI}")
    assert body.startswith(b'{"id":"gpt-5.4-mini", "owned_by":"x","headgate":{"display_name":')
    assert json.loads(body)[FIELD]["price"]["input"] == "0.75"
    harness.upstream.body = b"not json"
    assert await harness.ask(f"/models/{MINI}") == b"not json"


async def test_single_model_comes_from_the_cached_list(harness: ModelsHarness) -> None:
    rows = json.loads(await harness.ask())["data"]
    assert json.loads(await harness.ask("/models/ft%3Aown")) == rows[1]
    assert harness.source == "hit"
    harness.upstream.body = b'{"id":"a/b"}'
    assert json.loads(await harness.ask("/models/a/b"))["id"] == "a/b"
    assert (harness.source, len(harness.upstream.asked)) == ("miss", 2)


async def test_deleted_model_leaves_the_cached_list(harness: ModelsHarness) -> None:
    await harness.ask()
    harness.upstream.body = b'{"deleted":true}'
    assert await harness.ask("/models/ft:own", method="DELETE") == b'{"deleted":true}'
    harness.upstream.body = b'{"data":[]}'
    assert (await harness.list(), harness.source) == ({}, "miss")


async def test_provider_error_is_passed_on(harness: ModelsHarness) -> None:
    harness.upstream.status, harness.upstream.body = 401, b'{"error":{"message":"No"}}'
    assert await harness.ask() == harness.upstream.body
    assert b"x-headgate-error-source: provider\r\n" in harness.head


async def test_metadata_of_another_headgate_is_replaced(harness: ModelsHarness) -> None:
    harness.upstream.body = b'{"data":[{"id":"a","headgate":{"managed":true},"z":1.50}]}'
    body = await harness.ask()
    assert body.count(b'"headgate"') == 1
    assert b'"managed":false' in body
    assert b'"z":1.50' in body


def test_empty_object_gains_metadata() -> None:
    assert listing.splice(b"{ }", b"{}") == b'{"headgate":{}}'
    assert listing.splice(b' {"a":"}"} \n', b"{}") == b' {"a":"}","headgate":{}}'


MANAGED = replace(CREDENTIAL, id="cred_m", managed=True)
SECOND = replace(MANAGED, id="cred_n")
MANAGED_ROUTES = FakeManagedModelRoutes(
    {
        MINI: ManagedModelRoute(MINI, "", MANAGED),
        "house": ManagedModelRoute("house", NANO, SECOND),
    }
)


async def test_managed_models_are_listed_without_an_upstream_call() -> None:
    harness = ModelsHarness(MANAGED_ROUTES)
    harness.latencies["cred_n", "house"] = Latency(7, 9, 2)
    metadata = await harness.list(credential=MANAGED)
    assert (harness.upstream.asked, harness.source) == ([], "bypass")
    assert list(metadata) == [MINI, "house"]
    house, mini = metadata["house"], metadata[MINI]
    assert (house["managed"], house["display_name"], house["provider"]) == (True, "house", "openai")
    row = CATALOG.price(NANO, harness.clock.now())
    assert row is not None
    assert house["price"]["id"] == row.id
    assert house["latency"] == {"band": "low", "p50_ms": 7, "p95_ms": 9, "samples": 2}
    assert mini["price"]["input"] == "0.75"
    one = json.loads(await harness.ask("/models/house", credential=MANAGED))
    assert one == {
        "id": "house",
        "object": "model",
        "created": 1_800_000_000,
        "owned_by": "headgate",
        FIELD: house,
    }


async def test_managed_models_are_limited_to_scope_and_named_credential() -> None:
    harness = ModelsHarness(MANAGED_ROUTES)
    limited = replace(GRANT, models=("house",))
    assert list(await harness.list(credential=MANAGED, grant=limited)) == ["house"]
    assert list(await harness.list(credential=MANAGED, credential_name="m")) == [MINI]
    assert list(await harness.list(credential=SECOND, credential_name="n")) == ["house"]


async def test_unknown_managed_model_does_not_exist() -> None:
    harness = ModelsHarness(MANAGED_ROUTES)
    with pytest.raises(HeadgateError) as refused:
        await harness.ask("/models/none", credential=MANAGED)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(ModelNotListedError):
        await harness.ask(f"/models/{MINI}", credential=SECOND, credential_name="n")


async def test_own_credential_shows_its_own_models_beside_managed_ones() -> None:
    harness = ModelsHarness(MANAGED_ROUTES)
    assert list(await harness.list()) == [MINI, "ft:own"]


async def test_managed_credential_shows_its_providers_models_while_none_is_managed() -> None:
    harness = ModelsHarness(FakeManagedModelRoutes())
    metadata = await harness.list(credential=MANAGED)
    assert (harness.source, metadata["ft:own"]["managed"]) == ("miss", True)


def test_list_options_are_not_forwarded() -> None:
    call = make_call("/models", body=b"", method="GET")
    call.headers = [(b"if-none-match", b'"1"'), (b"range", b"x"), (b"user-agent", b"u")]
    read = parse_list_options(call, [])
    assert isinstance(read, ModelsCall)
    assert (read.headers, read.raw, read.refresh) == ([(b"user-agent", b"u")], False, False)
    assert parse_list_options(call, [(b"x-headgate-raw", b"True")]).headers == call.headers


ACME = replace(CREDENTIAL, id="cred_acme", name="Acme", integration="acme")
BOTH = Catalog.load(GOLDEN.parent / "catalog")


@pytest.fixture
def harness_with_two_integrations() -> ModelsHarness:
    """An organization with credentials of OpenAI and of an operator's own integration."""
    return ModelsHarness(catalog=BOTH, known=BOTH, credentials=FakeCredentials(ACME))


async def test_models_of_another_integration_are_listed_beside_the_providers_own(
    harness_with_two_integrations: ModelsHarness,
) -> None:
    metadata = await harness_with_two_integrations.list()
    assert list(metadata) == [MINI, "ft:own", "acme-large"]
    assert metadata["acme-large"]["provider"] == "acme"
    assert metadata["acme-large"]["price"]["id"] == "acme/acme-large@2026-06-01"
    shown = json.loads(await harness_with_two_integrations.ask("/models/acme-large"))
    assert (shown["id"], shown["owned_by"]) == ("acme-large", "acme")
    assert len(harness_with_two_integrations.upstream.asked) == 1
    raw = json.loads(await harness_with_two_integrations.ask(headers=[(b"x-headgate-raw", b"1")]))
    assert [row["id"] for row in raw["data"]] == [MINI, "ft:own"]
    assert "acme-large" not in await harness_with_two_integrations.list(credential_name="OpenAI")


async def test_organization_without_openai_sees_the_models_that_it_can_name(
    harness_with_two_integrations: ModelsHarness,
) -> None:
    assert list(await harness_with_two_integrations.list(credential=ACME)) == ["acme-large"]
    assert (harness_with_two_integrations.source, harness_with_two_integrations.upstream.asked) == (
        "bypass",
        [],
    )
    grant = replace(GRANT, models=("gpt-5*",))
    assert await harness_with_two_integrations.list(credential=ACME, grant=grant) == {}
    named = await harness_with_two_integrations.list(credential=ACME, credential_name="Acme")
    assert list(named) == [MINI, "ft:own"], "the provider's own"
    assert harness_with_two_integrations.source == "miss"


@pytest.mark.parametrize("spelled", ["acme-large", "acme/acme-large", f"openai/{MINI}"])
async def test_hidden_model_is_hidden_however_it_is_spelled(spelled: str) -> None:
    hidden = {"org_1": frozenset({"acme-large", MINI})}
    harness = ModelsHarness(
        catalog=BOTH, known=BOTH, credentials=FakeCredentials(ACME), hidden=hidden
    )
    with pytest.raises(ModelNotListedError, match=spelled):
        await harness.ask(f"/models/{spelled}")
    assert list(await harness.list()) == ["ft:own"]


@pytest.mark.parametrize(
    ("patterns", "seen"),
    [
        (("acme-large",), ["acme-large"]),
        (("acme/*",), ["acme-large"]),
        (("openai/*",), [MINI, "ft:own"]),
        (("gpt-5*", "acme/acme-large"), [MINI, "acme-large"]),
    ],
)
async def test_key_sees_the_models_of_its_scope_however_they_are_spelled(
    harness_with_two_integrations: ModelsHarness, patterns: tuple[str, ...], seen: list[str]
) -> None:
    assert (
        list(await harness_with_two_integrations.list(grant=replace(GRANT, models=patterns)))
        == seen
    )
    grant = replace(GRANT, models=patterns)
    for model in (MINI, "acme-large", "acme/acme-large"):
        if (model.removeprefix("acme/") in seen) is False:
            with pytest.raises(ModelNotListedError):
                harness_with_two_integrations.models.check_visible(
                    f"/models/{model}".encode(), grant
                )
        else:
            harness_with_two_integrations.models.check_visible(f"/models/{model}".encode(), grant)


async def test_key_limited_to_resources_sees_only_these(
    harness_with_two_integrations: ModelsHarness,
) -> None:
    grant = replace(GRANT, resources=("acme-large", "house"))
    assert list(await harness_with_two_integrations.list(grant=grant)) == ["acme-large"]
    raw = json.loads(
        await harness_with_two_integrations.ask(headers=[(b"x-headgate-raw", b"1")], grant=grant)
    )
    assert raw["data"] == []
    harness_with_two_integrations.models.check_visible(b"/models/acme-large", grant)
    for hidden in (MINI.encode(), b"acme/acme-large"):
        with pytest.raises(ModelNotListedError):
            harness_with_two_integrations.models.check_visible(b"/models/" + hidden, grant)


async def test_answers_have_the_rate_limits_of_the_key(harness: ModelsHarness) -> None:
    rate_limits = (RateLimit("requests", 60, 59, 1.0),)
    await harness.ask(rate_limits=rate_limits)
    assert b"x-headgate-ratelimit-remaining-requests: 59\r\n" in harness.head
    # The plain names belong to the provider where it was asked.
    assert b"\r\nx-ratelimit-" not in harness.head
    await harness.ask(rate_limits=rate_limits)
    assert b"x-headgate-ratelimit-remaining-requests: 59\r\n" in harness.head
    assert b"\r\nx-ratelimit-remaining-requests: 59\r\n" in harness.head
    await harness.ask()
    assert b"ratelimit" not in harness.head


class FakeResources:
    """Have two resources in one project, one of them with the name of a model."""

    projects = (GRANT.project_id,)

    def list_routes(self, project_id: str) -> list[tuple[str, float, CallRoute]]:
        targets = (Target("gpt-5.4", integration="openai"), Target("groq/x", integration="groq"))
        return [(name, 5.0, CallRoute(name, targets)) for name in ("assistant", "gpt-5.4-mini")]


async def test_resources_of_the_project_are_listed_before_the_models() -> None:
    harness = ModelsHarness(resources=FakeResources())
    listed = await harness.list()
    assert list(listed)[:2] == ["assistant", "gpt-5.4-mini"]
    assert listed["assistant"]["models"] == ["gpt-5.4", "groq/x"]
    # A model of the name of a resource is not what the name means.
    assert listed["gpt-5.4-mini"]["kind"] == "resource"
    row = json.loads(await harness.ask("/models/assistant"))
    assert (row["id"], row["created"], row[FIELD]["kind"]) == ("assistant", 5, "resource")
    limited = replace(GRANT, resources=("assistant",))
    assert list(await harness.list(grant=limited)) == ["assistant"]
    harness.models.check_visible(b"/models/assistant", limited)
    elsewhere = replace(GRANT, project_id="proj_2")
    assert "assistant" not in await harness.list(grant=elsewhere)
    assert "assistant" not in await harness.list(credential_name="main")
