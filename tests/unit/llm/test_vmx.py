"""The `vmx` envelope: what is read from it, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from headgate.llm import request
from headgate.llm.vmx import EMPTY, Envelope, InvalidEnvelopeError, parse_envelope


def test_envelope_is_read_with_its_own_names_and_unknown_fields_are_left_alone() -> None:
    envelope = parse_envelope(
        b'{"correlationId":"c-1","metadata":{"team":"a"},"timeoutMs":500,"secondaryModelIndex":0,'
        b'"resourceConfigOverrides":{"model":{"model":"m"}},"later":[1]}'
    )
    assert envelope == Envelope("c-1", {"team": "a"}, 0.5, {}, 0, {"model": {"model": "m"}})


@pytest.mark.parametrize("raw", [b"null", b"{}", b'{"correlationId":null,"metadata":null}'])
def test_null_is_the_same_as_nothing(raw: bytes) -> None:
    assert parse_envelope(raw) == EMPTY


def test_body_wins_over_headers_for_each_key() -> None:
    headers = Envelope("header", {"team": "header", "region": "eu"})
    envelope = parse_envelope(b'{"metadata":{"team":"body"}}', headers)
    assert envelope == Envelope("header", {"team": "body", "region": "eu"})
    assert parse_envelope(b'{"correlationId":"body"}', headers).correlation_id == "body"


def test_time_is_cut_to_ten_minutes() -> None:
    assert parse_envelope(b'{"timeoutMs":3600000}').timeout_seconds == 600


def test_control_characters_are_taken_out_of_the_correlation_id() -> None:
    envelope = parse_envelope(b'{"correlationId":" a\\r\\nset-cookie: x\\u0000 "}')
    assert envelope.correlation_id == "aset-cookie: x"


def test_provider_args_never_name_model_or_envelopes() -> None:
    envelope = parse_envelope(b'{"providerArgs":{"user":"u","model":"m","MODEL":"m","vmx":1}}')
    assert {name: bytes(raw) for name, raw in envelope.provider_args.items()} == {"user": b'"u"'}


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"3", "vmx"),
        (b'{"timeoutMs":50}', "vmx.timeoutMs"),
        (b'{"timeoutMs":"500"}', "vmx.timeoutMs"),
        (b'{"correlationId":7}', "vmx.correlationId"),
        (b'{"correlationId":"%b"}' % (b"x" * 129), "vmx.correlationId"),
        (b'{"metadata":[]}', "vmx.metadata"),
        (b'{"metadata":{"a":1}}', "vmx.metadata[...]"),
        (b'{"metadata":{"":"a"}}', "vmx.metadata"),
        (b'{"metadata":{"a":"%b"}}' % (b"x" * 513), "vmx.metadata.a"),
        (msgspec.json.encode({"metadata": {str(n): "" for n in range(17)}}), "vmx.metadata"),
        (b'{"providerArgs":7}', "vmx.providerArgs"),
        (b'{"providerArgs":{"stream":false}}', "vmx.providerArgs.stream"),
        (b'{"providerArgs":{"Stream":true}}', "vmx.providerArgs.Stream"),
        (b'{"providerArgs":{"background":true}}', "vmx.providerArgs.background"),
        (b'{"secondaryModelIndex":-1}', "vmx.secondaryModelIndex"),
        (b'{"secondaryModelIndex":0.5}', "vmx.secondaryModelIndex"),
        (b'{"resourceConfigOverrides":"x"}', "vmx.resourceConfigOverrides"),
    ],
)
def test_refusal_names_the_field(raw: bytes, param: str) -> None:
    with pytest.raises(InvalidEnvelopeError) as caught:
        parse_envelope(raw)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"Invalid '{param}': ")
    assert caught.value.code == "invalid_request"


def test_fields_replace_those_of_the_body_and_defaults_do_not() -> None:
    body = request.decode(b'{"model":"m","n":2,"input":[1.50]}')
    fields = {"n": msgspec.Raw(b"3"), "store": msgspec.Raw(b"false")}
    assert body.with_fields(fields).body == b'{"model":"m","n":3,"input":[1.50],"store":false}'
    assert body.with_fields(fields).n == 3
    assert body.with_defaults(fields).body == b'{"model":"m","n":2,"input":[1.50],"store":false}'
    assert body.with_fields({}) is body
    assert body.with_defaults({"n": msgspec.Raw(b"3")}) is body


def test_field_of_a_wrong_type_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(request.InvalidTypeError, match="'n'"):
        request.decode(b"{}").with_fields({"n": msgspec.Raw(b'"3"')})
