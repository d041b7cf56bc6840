"""Answer `/v1/models`: the provider's list and the managed models, with Headgate's metadata.

Such a call runs through the pipeline like every other, so that it is checked, limited and recorded.
The provider's list is cached for each credential; for a cached list and for managed models no
provider is called.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from headgate.gateway import listing
from headgate.gateway.anthropic_models import (
    AnthropicModelsEncoder,
    take_page,
    wants_anthropic,
)
from headgate.gateway.catalog_models import RENDERED_SECONDS, CatalogModels
from headgate.gateway.encoder import (
    BODY_HEADERS,
    PLAIN_RATE_PREFIX,
    OpenAiEncoder,
    render_cost,
    render_rare_headers,
    render_rate_limits,
)
from headgate.gateway.listing import ModelList
from headgate.gateway.model_metadata import ModelMetadata
from headgate.gateway.resource_models import (
    ListedResources,
    NoListedResources,
    ResourceModels,
)
from headgate.kit.clock import Clock
from headgate.kit.http.message import Headers, HoldBytes, Sink
from headgate.llm.providers.provider import Provider
from headgate.relay.backend import Backend
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState
from headgate.relay.client_response import ResponseEncoder
from headgate.relay.pipeline import CallPipeline
from headgate.relay.ports import (
    DEFAULT_INTEGRATION,
    Credential,
    Grant,
    ListedManagedModel,
    ManagedModelRoutes,
    Receipt,
)
from headgate.relay.upstream import InvalidProviderResponseError, UpstreamResponse

LISTS_MAX = 1_000
"""Credentials whose list is cached."""
LIST_BYTES_MAX = 1 << 20
"""A longer list is not cached."""
ROWS_MAX = 2_000
"""A longer list is returned without metadata, which is rendered on the event loop."""
JSON_TYPE = (b"content-type", b"application/json")
RAW_HEADER = b"x-headgate-raw"
REFRESH_PARAMETER = "refresh"
REFRESHING = frozenset({b"no-cache", b"no-store", b"max-age=0"})
TRUE = ("true", "1")

FindHidden = Callable[[str], frozenset[str]]
"""Returns the ids of the models that an organization hides."""


def hide_nothing(_organization_id: str) -> frozenset[str]:
    return frozenset()


class ModelsCall(Call):
    """Represent a call for models. `refresh` bypasses the cache; `raw` asks for no metadata."""

    refresh: bool = False
    raw: bool = False

    @property
    def is_cacheable(self) -> bool:
        """Return whether the cache may answer: a provider may interpret a query."""
        return self.method == "GET" and not self.query and not self.raw


class _CachedList(msgspec.Struct):
    """Hold the list that a provider returned for a credential, and its rows as last rendered."""

    credential: Credential
    cached_at: float
    listed: ModelList
    rendered_at: float
    rows: Sequence[tuple[str, bytes]]


class ModelsBackend:
    """Send calls for models to the provider or answer them here, and adapt the answers to the
    caller."""

    def __init__(
        self,
        upstream: Backend,
        metadata: ModelMetadata,
        managed_routes: ManagedModelRoutes,
        catalog_models: CatalogModels,
        *,
        clock: Clock,
        cache_seconds: float,
        find_hidden: FindHidden = hide_nothing,
        resources: ListedResources | None = None,
    ) -> None:
        self._upstream = upstream
        self._metadata = metadata
        self._managed_routes = managed_routes
        self._catalog_models = catalog_models
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._find_hidden = find_hidden
        self._resources = ResourceModels(resources or NoListedResources())
        self._cache: dict[str, _CachedList] = {}

    @property
    def has_managed_models(self) -> bool:
        return len(self._managed_routes) > 0

    def check_visible(self, path: bytes, grant: Grant) -> None:
        """Raise ModelNotListedError for a model that the key must not see, as if it did not
        exist."""
        wanted = listing.find_model(path)
        if wanted and self._resources.find(grant, wanted) is not None:
            return
        if wanted and not self._catalog_models.is_visible(wanted, grant, None):
            raise listing.make_not_listed_error(wanted)

    async def send(
        self, state: CallState, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> UpstreamResponse:
        """Return the answer to a call. Raise `ModelNotListedError` for a model that is hidden."""
        call, credential = state.call, state.credential
        assert credential is not None, "routing comes before sending"
        wanted = listing.find_model(call.path)
        hidden = self._find_hidden(call.grant.organization_id)
        if wanted and hidden and self._catalog_models.is_hidden(wanted, hidden):
            raise listing.make_not_listed_error(wanted)
        if call.method == "GET":
            body = self._answer_locally(call, credential, wanted)
            if body is not None:
                state.sent_at = self._clock.monotonic()
                return UpstreamResponse(200, [JSON_TYPE], EmptyResponse(), body=body)
        return await self._upstream.send(state, sleep)

    def adapt_body(self, state: CallState, body: bytes) -> bytes:
        """Return the provider's answer as the caller may see it.

        Raise InvalidProviderResponseError for an unreadable list if the caller may not see every
        model: it might name any.
        """
        call, credential = state.call, state.credential
        assert credential is not None, "an answer came from somewhere"
        if not state.attempts or call.method != "GET":
            if call.method == "DELETE":
                self._cache.pop(credential.id, None)
            return body
        wanted = listing.find_model(call.path)
        raw = isinstance(call, ModelsCall) and call.raw
        if wanted:
            return body if raw else self._add_metadata(wanted, credential, body)
        grant = call.grant
        sees_all = not (grant.models or grant.resources or self._find_hidden(grant.organization_id))
        if raw and sees_all:
            return body
        try:
            listed = listing.read(body)
        except InvalidProviderResponseError:
            if sees_all:
                return body
            raise
        if raw:
            return self._write(listed, [(row.id, row.raw) for row in listed.rows], call, credential)
        cached = self._store(call, credential, listed, body_bytes=len(body))
        return self._write(listed, cached.rows, call, credential)

    def _answer_locally(self, call: Call, credential: Credential, wanted: str) -> bytes | None:
        """Return the answer if no provider has to be called for it."""
        if wanted and call.credential_name is None:
            row = self._resources.find(call.grant, wanted)
            if row is not None:
                return row
        if credential.managed and self.has_managed_models:
            return self._answer_managed(call, credential, wanted)
        if not wanted and _is_catalog_list(call, credential):
            return self._write_catalogs(call)
        if wanted and call.credential_name is None:
            row = self._catalog_models.find(call.grant.organization_id, wanted)
            if row is not None:
                return row
        cached = self._find_cached(call, credential)
        if cached is None:
            return None
        if not wanted:
            return self._write(cached.listed, cached.rows, call, credential)
        return next((row for model_id, row in cached.rows if model_id == wanted), None)

    def _answer_managed(self, call: Call, credential: Credential, wanted: str) -> bytes:
        """Return the managed models; if the call names a credential, only those that it serves."""
        managed = [
            each
            for each in self._managed_routes.list()
            if call.credential_name is None or each.credential_id == credential.id
        ]
        if wanted:
            for each in managed:
                if each.model_id == wanted:
                    return self._write_managed(each)
            raise listing.make_not_listed_error(wanted)
        rows = [(each.model_id, self._write_managed(each)) for each in managed]
        empty = ModelList({"object": msgspec.Raw(b'"list"')}, [])
        return self._write(empty, rows, call, None)

    def _write_catalogs(self, call: Call) -> bytes:
        """Return the catalog's models, for an organization without a credential of the default
        integration.

        A provider's own ids would mean the default integration's models, or nothing.
        """
        grant = call.grant
        hidden = self._find_hidden(grant.organization_id)
        rows = [row for _, row in self._resources.list(grant)]
        rows += self._catalog_models.list(grant, DEFAULT_INTEGRATION, hidden)
        return listing.write({"object": msgspec.Raw(b'"list"')}, rows)

    def _write_managed(self, managed: ListedManagedModel) -> bytes:
        metadata = self._metadata.render_managed(managed)
        return listing.write_owned(managed.model_id, managed.created_at, metadata)

    def _find_cached(self, call: Call, credential: Credential) -> _CachedList | None:
        """Return the cached list of exactly this credential, if it is fresh enough for the call."""
        if not isinstance(call, ModelsCall) or call.refresh or not call.is_cacheable:
            return None
        cached = self._cache.get(credential.id)
        now = self._clock.monotonic()
        if cached is None or now - cached.cached_at >= self._cache_seconds:
            return None
        if cached.credential != credential:
            return None
        if now - cached.rendered_at >= RENDERED_SECONDS:
            cached.rows, cached.rendered_at = self._render(cached.listed, credential), now
        return cached

    def _store(
        self, call: Call, credential: Credential, listed: ModelList, *, body_bytes: int
    ) -> _CachedList:
        now = self._clock.monotonic()
        cached = _CachedList(credential, now, listed, now, self._render(listed, credential))
        if isinstance(call, ModelsCall) and call.is_cacheable and body_bytes <= LIST_BYTES_MAX:
            self._cache.pop(credential.id, None)
            if len(self._cache) >= LISTS_MAX:
                del self._cache[next(iter(self._cache))]
            self._cache[credential.id] = cached
        return cached

    def _render(self, listed: ModelList, credential: Credential) -> Sequence[tuple[str, bytes]]:
        if len(listed.rows) > ROWS_MAX:
            return [(row.id, row.raw) for row in listed.rows]
        render = self._metadata.render
        return [
            (row.id, listing.splice(row.raw, render(row.id, credential))) for row in listed.rows
        ]

    def _add_metadata(self, wanted: str, credential: Credential, body: bytes) -> bytes:
        try:
            return listing.splice(body, self._metadata.render(wanted, credential))
        except InvalidProviderResponseError:
            return body

    def _write(
        self,
        listed: ModelList,
        rows: Sequence[tuple[str, bytes]],
        call: Call,
        credential: Credential | None,
    ) -> bytes:
        """Write the list that this key may see. `credential` served the rows; None for managed
        models."""
        grant, is_visible = call.grant, self._catalog_models.is_visible
        hidden = self._find_hidden(grant.organization_id)
        integration = None if credential is None else credential.integration
        raw = isinstance(call, ModelsCall) and call.raw
        resources: list[tuple[str, bytes]] = []
        if call.credential_name is None and not raw:
            resources = self._resources.list(grant)
        # A resource comes before a model of its name, in lists as in calls.
        names = {name for name, _ in resources}
        shown = [row for _, row in resources]
        shown += [
            row
            for model_id, row in rows
            if model_id not in hidden
            and model_id not in names
            and is_visible(model_id, grant, integration)
        ]
        if credential is not None and call.credential_name is None and not raw:
            shown += self._catalog_models.list(grant, credential.integration, hidden)
        return listing.write(listed.fields, shown)


class ModelsEncoder(OpenAiEncoder):
    """Encode answers whose body is not the provider's own and may come from the cache."""

    def __init__(
        self,
        provider: Provider,
        retry_after_max_seconds: float,
        clock: Clock,
        models: ModelsBackend,
    ) -> None:
        super().__init__(provider, retry_after_max_seconds, clock)
        self.models = models

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        return self.models.adapt_body(state, body)

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        call, credential = state.call, state.credential
        assert credential is not None, "an answer came from somewhere"
        if answer.status != 200 or call.method != "GET":
            return super().encode_head(state, answer, receipt)
        answer.headers = [each for each in answer.headers if each[0] not in BODY_HEADERS]
        answer.headers.append(JSON_TYPE)
        return b"%bx-headgate-request-id: %b\r\nx-headgate-retries: %d\r\n%b%b%b%b" % (
            self._passing.render(answer.headers),
            call.request_id.encode(),
            max(0, state.attempts - 1),
            credential.answer_head.replace(
                b": bypass\r\n", b": %b\r\n" % self._name_cache_status(state)
            ),
            self._render_rates(state),
            b"" if receipt is None else render_cost(receipt),
            render_rare_headers(state, answer),
        )

    def _render_rates(self, state: CallState) -> bytes:
        """Render the rate limits of the key; also by their plain names if no provider was
        called."""
        rate_limits = state.call.rate_limits
        if not rate_limits:
            return b""
        plain = b"" if state.attempts else render_rate_limits(rate_limits, PLAIN_RATE_PREFIX)
        return render_rate_limits(rate_limits) + plain

    def _name_cache_status(self, state: CallState) -> bytes:
        """Return `hit` for a cached list, `miss` if the provider was called, `bypass` if neither
        applies."""
        if state.attempts:
            return b"miss"
        credential = state.credential
        assert credential is not None, "an answer came from somewhere"
        is_local = (credential.managed and self.models.has_managed_models) or _is_catalog_list(
            state.call, credential
        )
        return b"bypass" if is_local else b"hit"


class ModelsPipeline:
    """Run calls for models: through a pipeline whose backend is `ModelsBackend`."""

    def __init__(self, pipeline: CallPipeline, encoder: ModelsEncoder) -> None:
        self._pipeline = pipeline
        self._encoder = encoder

    def check_visible(self, path: bytes, grant: Grant) -> None:
        self._encoder.models.check_visible(path, grant)

    async def run(self, call: Call, caller: Caller, headers: Headers) -> None:
        """Run a call as `CallPipeline.run` does; `headers` are all that the client sent."""
        encoder: ResponseEncoder = self._encoder
        if call.method == "GET" and wants_anthropic(headers):
            encoder = AnthropicModelsEncoder(self._encoder, take_page(call))
        await self._pipeline.run(parse_list_options(call, headers), caller, encoder)


def _is_catalog_list(call: Call, credential: Credential) -> bool:
    """Return whether a list comes from the catalog alone.

    That is so if an own credential of a further integration serves it, and the call needs nothing
    that only its provider can answer.
    """
    if credential.integration == DEFAULT_INTEGRATION or credential.managed:
        return False
    return call.credential_name is None and isinstance(call, ModelsCall) and call.is_cacheable


class EmptyResponse:
    """Stand in for the provider's response of an answer that was made here."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: Headers = []

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        return b""

    def stream(self, sink: Sink) -> None:
        sink.on_end()

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def abort(self) -> None:
        pass


def parse_list_options(call: Call, headers: Headers) -> ModelsCall:
    """Parse and remove what a client's headers and query say about the cache and metadata."""
    raw = refresh = False
    for name, value in headers:
        if name == b"cache-control":
            directives = {each.strip().lower() for each in value.split(b",")}
            refresh = refresh or not REFRESHING.isdisjoint(directives)
        elif name == RAW_HEADER:
            raw = value.lower() in (b"true", b"1")
    query = call.query
    if query:
        pairs = urllib.parse.parse_qsl(query[1:].decode("latin-1"), keep_blank_values=True)
        if any(name == REFRESH_PARAMETER for name, _ in pairs):
            refresh = refresh or any(
                name == REFRESH_PARAMETER and value.lower() in TRUE for name, value in pairs
            )
            rest = [pair for pair in pairs if pair[0] != REFRESH_PARAMETER]
            query = b"?" + urllib.parse.urlencode(rest).encode() if rest else b""
    fields = msgspec.structs.asdict(call)
    fields["query"] = b"" if query == b"?" else query
    if not raw:
        fields["headers"] = [
            each for each in call.headers if not each[0].startswith(b"if-") and each[0] != b"range"
        ]
    return ModelsCall(**fields, refresh=refresh, raw=raw)
