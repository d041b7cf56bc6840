"""Read the fields of a JSON request that the gateway acts on; everything else stays as it came."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from headgate.kit import json_limits
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.json_limits import JsonLimitError, JsonLimits
from headgate.llm import json_members

MODEL_CHARACTERS_MAX = 256
"""The model goes into receipts, logs and headers, so its length is bounded."""

_ENVELOPES = ("vmx", "__vmx_passthrough")
_TYPE_NAMES = {
    "{": "an object",
    "[": "an array",
    '"': "a string",
    "t": "a boolean",
    "f": "a boolean",
    "n": "null",
}


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _FieldValues(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    background: bool | None = None
    stream_options: _StreamOptions | msgspec.UnsetType | None = msgspec.UNSET
    n: int | None = None
    max_output_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    service_tier: str | None = None
    vmx: msgspec.Raw = msgspec.Raw()
    vmx_passthrough: msgspec.Raw = msgspec.field(name=_ENVELOPES[1], default=msgspec.Raw())


_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
"""The parser looks for the second half past the end, and reports a truncated body."""
_LONE_SURROGATE_BYTES = 12
LIMITS = JsonLimits()
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_EXPECTED: dict[str, tuple[msgspec.json.Decoder[object], str]] = {
    "model": (msgspec.json.Decoder(str | None), "a string"),
    "stream": (msgspec.json.Decoder(bool | None), "a boolean"),
    "background": (msgspec.json.Decoder(bool | None), "a boolean"),
    "stream_options": (msgspec.json.Decoder(_StreamOptions | None), "an object of booleans"),
    "n": (msgspec.json.Decoder(int | None), "an integer"),
    "max_output_tokens": (msgspec.json.Decoder(int | None), "an integer"),
    "max_completion_tokens": (msgspec.json.Decoder(int | None), "an integer"),
    "max_tokens": (msgspec.json.Decoder(int | None), "an integer"),
    "service_tier": (msgspec.json.Decoder(str | None), "a string"),
}
CHECKED = tuple(_EXPECTED)
"""Fields that the gateway acts on, where an endpoint defines them."""
_ASKED_OPTIONS = b'{"include_usage":true}'


class CheckedFields:
    """Decode the fields of one endpoint's request that the gateway acts on, and check their types.

    A field of the same name on another endpoint is the provider's alone: `background` is a boolean
    for a response, and a string for an image.
    """

    def __init__(self, *names: str) -> None:
        """Take some of `CHECKED`. Raise `ValueError` for any other name."""
        if unknown := set(names) - set(CHECKED):
            raise ValueError(f"fields that are not checked: {unknown}")
        self.names = names
        unread = [name for name in CHECKED if name not in names]
        kept = [
            (each.name, each.type, msgspec.field(name=each.encode_name, default=each.default))
            for each in msgspec.structs.fields(_FieldValues)
            if each.name not in unread
        ]
        absent = {name: getattr(_ABSENT, name) for name in unread}
        values = msgspec.defstruct("FieldValues", kept, namespace=absent)
        self.decode = msgspec.json.Decoder(cast("type[_FieldValues]", values)).decode


_ABSENT = _FieldValues()
ALL_FIELDS = CheckedFields(*CHECKED)


class InvalidRequestError(HeadgateError):
    """The request cannot be understood, so it was not sent to a provider.

    Correct what the message names.
    """

    kind = Kind.INVALID
    code = "invalid_request"


class InvalidJsonError(InvalidRequestError):
    """The body is not JSON, or JSON that parsers read differently.

    Send one JSON object in UTF-8, without repeated keys.
    """

    code = "invalid_json"


class InvalidTypeError(InvalidRequestError):
    """A field, or the whole body, has the wrong type.

    Send the type that the message names.
    """

    code = "invalid_type"


class JsonRequest(msgspec.Struct, frozen=True):
    """Hold a JSON request's body, and the top-level fields that the gateway acts on.

    A field that is null counts as absent. `output_tokens_max` is the largest of the limits that the
    request sets.
    """

    body: bytes
    model: str | None
    stream: bool
    background: bool
    includes_usage: bool
    has_stream_options: bool
    n: int | None
    output_tokens_max: int | None
    service_tier: str | None
    has_envelopes: bool

    @property
    def fields(self) -> dict[str, msgspec.Raw]:
        """Decode the top level at each call: fields in order, values as they came."""
        return _fields_decoder.decode(self.body)

    @property
    def choices(self) -> int:
        """Return how many answers are asked for: `n` of each prompt."""
        return max(1, self.n or 1) * count_prompts(self.fields)

    def with_envelopes_removed(self) -> JsonRequest:
        """Return the request without `vmx` and `__vmx_passthrough`; itself if it has neither."""
        if not self.has_envelopes:
            return self
        body = self.body
        for name in _ENVELOPES:
            body = json_members.cut(body, name)
        return replace(self, body=body, has_envelopes=False)

    def with_usage_asked(self) -> JsonRequest:
        """Return the request with `stream_options.include_usage` true; itself if it is already."""
        if self.includes_usage:
            return self
        body = self.body
        if not self.has_stream_options and self.stream:
            # Append a member; there is at least one before it, `stream`.
            end = body.rindex(b"}")
            body = b'%b,"stream_options":%b%b' % (body[:end], _ASKED_OPTIONS, body[end:])
        else:
            options = bytes(self.fields.get("stream_options", b"null"))
            if options.startswith(b"{"):
                options = json_members.put(options, "include_usage", b"true")
            else:
                options = _ASKED_OPTIONS
            body = json_members.put(body, "stream_options", options)
        return replace(self, body=body, includes_usage=True, has_stream_options=True)

    def with_output_limit(self, limit: int, names: Sequence[str]) -> JsonRequest:
        """Return the request with no larger output limit than this one.

        `names` are the fields of the endpoint that limit the output. Those that state a larger
        number get this one; if the request states none, the first name is added.
        """
        stated = read_output_limits(self.fields, names)
        body = self.body
        for name, value in stated.items():
            if value > limit:
                body = json_members.put(body, name, b"%d" % limit)
        if not stated:
            body = json_members.put(body, names[0], b"%d" % limit)
        return replace(self, body=body, output_tokens_max=limit)

    def with_inputs(self, texts: Sequence[bytes]) -> JsonRequest:
        """Return a request for embeddings with these inputs, each a JSON text."""
        return replace(self, body=json_members.put(self.body, "input", b"[%b]" % b",".join(texts)))

    def with_model(self, wire_id: str) -> JsonRequest:
        """Return the request with another model; itself if it names this one already."""
        if self.model == wire_id:
            return self
        body = json_members.put(self.body, "model", msgspec.json.encode(wire_id))
        return replace(self, body=body, model=wire_id)

    def with_fields(
        self, fields: Mapping[str, msgspec.Raw], checked: CheckedFields = ALL_FIELDS
    ) -> JsonRequest:
        """Return the request with these top-level fields, each in place of its own of that name.
        Raise `InvalidRequestError`."""
        return self._merge({**self.fields, **fields}, checked) if fields else self

    def with_defaults(
        self, fields: Mapping[str, msgspec.Raw], checked: CheckedFields = ALL_FIELDS
    ) -> JsonRequest:
        """Return the request with those of these top-level fields that it has not. Raise
        `InvalidRequestError`."""
        given = self.fields
        missing = {name: value for name, value in fields.items() if name not in given}
        return self._merge({**given, **missing}, checked) if missing else self

    def _merge(self, fields: dict[str, msgspec.Raw], checked: CheckedFields) -> JsonRequest:
        body = msgspec.json.encode(fields)
        try:
            return _build_request(body, checked.decode(body))
        except msgspec.ValidationError:
            raise _explain(body, LIMITS, checked) from None


def decode(
    body: bytes, limits: JsonLimits = LIMITS, checked: CheckedFields = ALL_FIELDS
) -> JsonRequest:
    """Parse a request's body.

    Raise `InvalidRequestError`, mostly as `InvalidJsonError` or `InvalidTypeError`.
    """
    try:
        if len(body) > limits.plain_bytes_max:
            json_limits.scan(body, limits)
            return _build_request(body, checked.decode(body))
        values = checked.decode(body)
        json_limits.check(body, limits)
    except msgspec.ValidationError:
        raise _explain(body, limits, checked) from None
    except JsonLimitError as fault:
        raise _report_limit(fault) from None
    except _UNREADABLE as error:
        raise _report_syntax(body, limits, error) from None
    return _build_request(body, values)


def encode(fields: Mapping[str, Any]) -> JsonRequest:
    """Return a request with these fields, whose types are right."""
    options = fields.get("stream_options")
    return JsonRequest(
        msgspec.json.encode(fields),
        fields.get("model"),
        fields.get("stream") is True,
        fields.get("background") is True,
        bool(options) and options.get("include_usage") is True,
        "stream_options" in fields,
        fields.get("n"),
        max(
            fields.get("max_output_tokens") or 0,
            fields.get("max_completion_tokens") or 0,
            fields.get("max_tokens") or 0,
        )
        or None,
        fields.get("service_tier"),
        has_envelopes=False,
    )


def read_field(raw: msgspec.Raw | None) -> object:
    """Decode a field that the provider judges; None where it cannot be decoded."""
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except _UNREADABLE:
        return None


def read_output_limits(fields: Mapping[str, msgspec.Raw], names: Sequence[str]) -> dict[str, int]:
    """Return the output limits that a request states, by field. Null counts as absent."""
    stated: dict[str, int] = {}
    for name in names:
        value = read_field(fields[name]) if name in fields else None
        if isinstance(value, int | float):
            stated[name] = int(value)
    return stated


def count_prompts(fields: Mapping[str, msgspec.Raw]) -> int:
    """Count the prompts of a completion: those of a list; a list of tokens is one."""
    prompt = read_field(fields.get("prompt"))
    prompts = cast("list[object]", prompt) if isinstance(prompt, list) else []
    return 1 if all(isinstance(each, int) for each in prompts) else len(prompts)


def _build_request(body: bytes, values: _FieldValues) -> JsonRequest:
    if values.model is not None and len(values.model) > MODEL_CHARACTERS_MAX:
        message = f"Invalid 'model': at most {MODEL_CHARACTERS_MAX} characters are accepted."
        raise InvalidRequestError(message, param="model")
    options = values.stream_options
    return JsonRequest(
        body,
        values.model,
        values.stream is True,
        values.background is True,
        bool(options) and options.include_usage is True,
        options is not msgspec.UNSET,
        values.n,
        max(
            values.max_output_tokens or 0, values.max_completion_tokens or 0, values.max_tokens or 0
        )
        or None,
        values.service_tier,
        bool(values.vmx or values.vmx_passthrough),
    )


def _explain(body: bytes, limits: JsonLimits, checked: CheckedFields) -> InvalidRequestError:
    """Return the error of a body whose checked fields are of the wrong types."""
    try:
        if len(body) <= limits.plain_bytes_max:
            json_limits.check(body, limits)
        fields = _fields_decoder.decode(body)
    except JsonLimitError as fault:
        return _report_limit(fault)
    except msgspec.ValidationError:
        return InvalidTypeError(
            "Invalid type for the request body: expected an object, "
            f"but got {_name_type(body)} instead."
        )
    except _UNREADABLE as error:
        return _report_syntax(body, limits, error)
    for name in checked.names:
        decoder, expected = _EXPECTED[name]
        try:
            decoder.decode(fields.get(name, b"null"))
        except _UNREADABLE:
            got = _name_type(bytes(fields[name]))
            return InvalidTypeError(
                f"Invalid type for '{name}': expected {expected}, but got {got} instead.",
                param=name,
            )
    return InvalidTypeError("A field of the request has an invalid type.")


def _report_syntax(body: bytes, limits: JsonLimits, error: Exception) -> InvalidJsonError:
    """Return the error of a body that is no JSON, with the place in its message."""
    if isinstance(error, msgspec.DecodeError):
        half = _LONE_SURROGATE.search(body, max(0, len(body) - _LONE_SURROGATE_BYTES))
        if half is not None and "(byte" not in str(error):
            description = f"half of a surrogate pair stands alone (byte {half.start()})"
        elif body.startswith(codecs.BOM_UTF8):
            description = "it begins with a byte order mark (byte 0)"
        else:
            description = str(error) if "(byte" in str(error) else f"{error} (byte {len(body)})"
        return _build_error(description)
    try:
        json_limits.scan(body, limits)
    except JsonLimitError as fault:
        return _report_limit(fault)
    return _build_error(str(error))


def _report_limit(fault: JsonLimitError) -> InvalidJsonError:
    return _build_error(fault.message[0].lower() + fault.message[1:], fault.path)


def _build_error(description: str, path: str | None = None) -> InvalidJsonError:
    return InvalidJsonError(
        f"We could not parse the JSON body of your request: {description}. The body must be one"
        " JSON object, encoded in UTF-8.",
        param=path,
    )


def _name_type(raw: bytes) -> str:
    return _TYPE_NAMES.get(raw[:64].lstrip()[:1].decode("ascii", "replace"), "a number")
