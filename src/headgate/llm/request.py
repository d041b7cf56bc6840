"""What the gateway acts on in a JSON request, with everything else left as it came."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError, Kind

MODEL_CHARACTERS_MAX = 256
"""It goes into receipts, logs and headers, so it is bounded."""

_ENVELOPES = ("vmx", "__vmx_passthrough")
_KINDS = {
    "{": "an object",
    "[": "an array",
    '"': "a string",
    "t": "a boolean",
    "f": "a boolean",
    "n": "null",
}


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Facts(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    background: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    max_output_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    service_tier: str | None = None
    vmx: msgspec.Raw = msgspec.Raw()
    vmx_passthrough: msgspec.Raw = msgspec.field(name=_ENVELOPES[1], default=msgspec.Raw())


_facts_decoder = msgspec.json.Decoder(_Facts)
_options_decoder: msgspec.json.Decoder[dict[str, msgspec.Raw] | None] = msgspec.json.Decoder(
    dict[str, msgspec.Raw] | None
)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_EXPECTED: tuple[tuple[str, msgspec.json.Decoder[object], str], ...] = (
    ("model", msgspec.json.Decoder(str | None), "a string"),
    ("stream", msgspec.json.Decoder(bool | None), "a boolean"),
    ("background", msgspec.json.Decoder(bool | None), "a boolean"),
    ("stream_options", msgspec.json.Decoder(_StreamOptions | None), "an object of booleans"),
    ("n", msgspec.json.Decoder(int | None), "an integer"),
    ("max_output_tokens", msgspec.json.Decoder(int | None), "an integer"),
    ("max_completion_tokens", msgspec.json.Decoder(int | None), "an integer"),
    ("max_tokens", msgspec.json.Decoder(int | None), "an integer"),
    ("service_tier", msgspec.json.Decoder(str | None), "a string"),
)


class RequestInvalid(HeadgateError):
    """The request cannot be understood, so it is not sent to a provider."""

    kind = Kind.INVALID
    code = "invalid_request"


class JsonInvalid(RequestInvalid):
    """The body is not JSON."""

    code = "invalid_json"


class TypeInvalid(RequestInvalid):
    """A field, or the whole body, is of the wrong type."""

    code = "invalid_type"


class FieldMissing(RequestInvalid):
    """A required field is missing."""

    code = "missing_required_parameter"


class JsonRequest(msgspec.Struct, frozen=True):
    """A JSON request: its body, and what is acted on of its top level.

    A field that is null counts as absent. A key that is repeated counts with its last value.
    `output_tokens_max` is the largest of the limits that the request sets.
    """

    body: bytes
    model: str | None
    stream: bool
    background: bool
    includes_usage: bool
    n: int | None
    output_tokens_max: int | None
    service_tier: str | None
    has_envelopes: bool

    @property
    def fields(self) -> dict[str, msgspec.Raw]:
        """The top level, decoded at each call: fields in order, values exactly as they came."""
        try:
            return _fields_decoder.decode(self.body)
        except _UNREADABLE as error:  # a name that nothing acts on and that is no UTF-8
            raise _not_json(error) from None

    def require_model(self) -> str:
        """The model. Raises `FieldMissing`."""
        if not self.model:
            raise FieldMissing("Missing required parameter: 'model'.", param="model")
        return self.model

    def with_envelopes_removed(self) -> JsonRequest:
        """Without `vmx` and `__vmx_passthrough`; the same request if it has neither."""
        if not self.has_envelopes:
            return self
        fields = {name: raw for name, raw in self.fields.items() if name not in _ENVELOPES}
        return replace(self, body=encode(fields), has_envelopes=False)

    def with_usage_asked(self) -> JsonRequest:
        """With `stream_options.include_usage` true, its other options kept; the same if it is."""
        if self.includes_usage:
            return self
        fields = self.fields
        options = dict(_options_decoder.decode(fields.get("stream_options", b"null")) or {})
        options["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(encode(options))
        return replace(self, body=encode(fields), includes_usage=True)

    def with_model(self, wire_id: str) -> JsonRequest:
        """With another model; the same request if it names this one already."""
        if self.model == wire_id:
            return self
        fields = self.fields
        fields["model"] = msgspec.Raw(msgspec.json.encode(wire_id))
        return replace(self, body=encode(fields), model=wire_id)


def decode(body: bytes) -> JsonRequest:
    """Read a request's body. Raises `RequestInvalid`, mostly as `JsonInvalid` or `TypeInvalid`."""
    try:
        facts = _facts_decoder.decode(body)
    except msgspec.ValidationError:
        raise _explain(body) from None
    except _UNREADABLE as error:
        raise _not_json(error) from None
    if facts.model is not None and len(facts.model) > MODEL_CHARACTERS_MAX:
        message = f"Invalid 'model': at most {MODEL_CHARACTERS_MAX} characters are accepted."
        raise RequestInvalid(message, param="model")
    options = facts.stream_options
    return JsonRequest(
        body,
        facts.model,
        facts.stream is True,
        facts.background is True,
        options is not None and options.include_usage is True,
        facts.n,
        max(facts.max_output_tokens or 0, facts.max_completion_tokens or 0, facts.max_tokens or 0)
        or None,
        facts.service_tier,
        bool(facts.vmx or facts.vmx_passthrough),
    )


def encode(fields: dict[str, msgspec.Raw]) -> bytes:
    """JSON of an object, its values byte for byte as they are."""
    return msgspec.json.encode(fields)


def _explain(body: bytes) -> RequestInvalid:
    """What is wrong with a body whose facts are of the wrong types."""
    try:
        fields = _fields_decoder.decode(body)
    except msgspec.ValidationError:
        return TypeInvalid(
            f"Invalid type for the request body: expected an object, but got {_kind(body)} instead."
        )
    except _UNREADABLE as error:
        return _not_json(error)
    for name, decoder, expected in _EXPECTED:
        try:
            decoder.decode(fields.get(name, b"null"))
        except _UNREADABLE:
            got = _kind(bytes(fields[name]))
            return TypeInvalid(
                f"Invalid type for '{name}': expected {expected}, but got {got} instead.",
                param=name,
            )
    return TypeInvalid("A field of the request has an invalid type, and comes twice.")


def _not_json(error: Exception) -> JsonInvalid:
    return JsonInvalid(
        f"We could not parse the JSON body of your request: {error}. The body must be one JSON"
        " object, encoded in UTF-8."
    )


def _kind(raw: bytes) -> str:
    return _KINDS.get(raw[:64].lstrip()[:1].decode("ascii", "replace"), "a number")
