"""Decode requests to the OpenAI API: of its head and its body becomes a call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from headgate.gateway import decompression, vmx
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.request_head import RequestHead
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.json_limits import JsonLimits
from headgate.llm import form, request
from headgate.llm.endpoint import Body, Endpoint
from headgate.relay.call import Call
from headgate.relay.ports import ModelCatalog
from headgate.signatures.model import check_body, check_stream

PLAIN_CODINGS = (b"", b"identity")
JSON_TYPES = (b"application/json", b"")
"""What nearly every client sends; a body without a type is parsed as JSON."""


class UnsupportedContentTypeError(HeadgateError):
    """The body has a content type that this address does not read.

    Send the content type that the message names.
    """

    kind = Kind.MEDIA_TYPE
    code = "unsupported_content_type"


class HandlerLimits(msgspec.Struct, frozen=True):
    """Limit request bodies by kind, and the `retry-after` of responses, in bytes and seconds.
    `decodes` says whether compressed bodies are accepted where they are read."""

    json_body_bytes_max: int = 64 << 20
    form_body_bytes_max: int = 64 << 20
    raw_body_bytes_max: int = 1 << 30
    json: JsonLimits = request.LIMITS
    form: form.FormLimits = form.LIMITS
    decodes: bool = True
    decode_ratio_max: int = 100
    retry_after_max_seconds: float = 60.0


class CallDecoder:
    """Make calls of requests whose body is here, or is read while it is sent on."""

    def __init__(self, limits: HandlerLimits, catalog: ModelCatalog) -> None:
        self._limits = limits
        self._catalog = catalog

    def decode(self, exchange: InboundExchange, request_head: RequestHead) -> Call:
        endpoint, grant = request_head.endpoint, request_head.grant
        assert endpoint is not None
        assert grant is not None
        body: request.JsonRequest | bytes | AsyncIterator[bytes] = b""
        model: str | None = None
        streams = exchange.streams_body and not exchange.body_complete
        if streams:
            body = exchange.stream_body()
            if request_head.signed is not None:
                body = check_stream(request_head.signed, body)
        else:
            body = data = self._take_body(exchange, request_head, endpoint)
            if (
                endpoint.body is Body.FORM
                and request_head.content_type[:10].lower() == b"multipart/"
            ):
                content_type = request_head.content_type.decode("latin-1")
                model = form.read_model(data, content_type, self._limits.form, endpoint.checked)
            elif endpoint.body in (Body.JSON, Body.FORM):
                body = request.decode(data, self._limits.json, endpoint.checked)
                model = body.model
        call = Call(
            request_head.request_id,
            grant,
            endpoint,
            request_head.method,
            request_head.path,
            request_head.query,
            request_head.headers,
            body,
            request_head.started_at,
            model,
            exchange.content_length if streams else None,
            request_head.credential_name,
            request_head.correlation_id,
            (),
            request_head.fits_budget,
            0,
            request_head.metadata,
            is_strict=request_head.is_strict,
            retries_max=request_head.retries_max,
        )
        if request_head.envelope is not None or (
            type(body) is request.JsonRequest and body.has_envelopes
        ):
            self._add_envelope(call, request_head)
        return call

    def _add_envelope(self, call: Call, request_head: RequestHead) -> None:
        """Put into a call what the envelope of VM-X says, and what its headers and prefix say."""
        # Below the prefix, a name that nobody knows is not passed on to a provider.
        is_unknown = (
            request_head.has_vmx_prefix
            and call.model is not None
            and self._catalog.match(call.model).model is None
        )
        vmx.add_envelope(call, request_head.envelope, needs_resource=is_unknown)
        request_head.envelope, request_head.metadata = call.envelope, call.metadata
        request_head.correlation_id = call.correlation_id

    def _take_body(
        self, exchange: InboundExchange, request_head: RequestHead, endpoint: Endpoint
    ) -> bytes:
        data = exchange.take_body()
        if request_head.signed is not None:
            check_body(request_head.signed, data)
        if request_head.coding in PLAIN_CODINGS or endpoint.body is Body.RAW:
            return data
        request_head.headers = [
            each for each in request_head.headers if each[0] != b"content-encoding"
        ]
        data = decompression.decompress(
            data,
            request_head.coding.decode("latin-1"),
            body_bytes_max=exchange.body_bytes_max,
            ratio_max=self._limits.decode_ratio_max,
        )
        exchange.reserve_memory(len(data))
        return data


def check_content_type(endpoint: Endpoint, content_type: bytes) -> None:
    """Raise `UnsupportedContentTypeError` for a type that the endpoint cannot read."""
    kind = content_type.partition(b";")[0].strip().lower()
    is_json = kind == b"application/json" or kind.endswith(b"+json")
    is_form = kind.startswith(b"multipart/") and endpoint.body is Body.FORM
    if endpoint.body in (Body.JSON, Body.FORM) and not is_json and not is_form:
        expected = "application/json"
        if endpoint.body is Body.FORM:
            expected = "multipart/form-data"
        shown = kind[:64].decode("ascii", "replace")
        raise UnsupportedContentTypeError(
            f"Unsupported content type: '{shown}'. This endpoint accepts {expected}."
        )
