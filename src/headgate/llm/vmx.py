"""Read the `vmx` envelope: what a client of VM-X says to the gateway inside a request's body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from headgate.llm.request import InvalidRequestError

NAME = "vmx"
PASSTHROUGH = "__vmx_passthrough"
TIMEOUT_MS_MIN = 100
TIMEOUT_MS_MAX = 600_000
"""A longer time is cut to this, ten minutes."""
CORRELATION_ID_CHARACTERS_MAX = 128
METADATA_PAIRS_MAX = 16
METADATA_KEY_MAX = 64
METADATA_VALUE_MAX = 512
"""The limits of OpenAI's own `metadata`."""
GATEWAY_FIELDS = ("stream", "background")
"""Fields that decide how the gateway answers, so they are set in the body and nowhere else."""
_LEFT_OUT = frozenset({"model", NAME, PASSTHROUGH})
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_PLACE = re.compile(r" - at `(?:key in )?\$(.*)`\Z", re.DOTALL)


class InvalidEnvelopeError(InvalidRequestError):
    """A field of the `vmx` envelope has the wrong type, or is out of its bounds.

    Correct the field that the message names.
    """


class Envelope(msgspec.Struct, frozen=True):
    """Hold a `vmx` envelope, with what the headers `x-vmx-*` add to it.

    A call below the prefix `/v1/completion` has one even if its client sent none. `provider_args`
    are top-level fields for the provider, which replace those of the body after any conversion.
    `secondary_model_index` counts from 0. `resource_overrides` is JSON as it came, in the names of
    VM-X; None where there is none.
    """

    correlation_id: str | None = None
    metadata: Mapping[str, str] = {}
    timeout_seconds: float | None = None
    provider_args: Mapping[str, msgspec.Raw] = {}
    secondary_model_index: int | None = None
    resource_overrides: Mapping[str, Any] | None = None


EMPTY = Envelope()


class _Fields(msgspec.Struct, rename="camel"):
    correlation_id: str | None = None
    metadata: dict[str, str] | None = None
    timeout_ms: Annotated[float, msgspec.Meta(ge=TIMEOUT_MS_MIN)] | None = None
    provider_args: dict[str, msgspec.Raw] | None = None
    secondary_model_index: Annotated[int, msgspec.Meta(ge=0)] | None = None
    resource_config_overrides: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Fields | None).decode


def parse_envelope(raw: bytes, headers: Envelope = EMPTY) -> Envelope:
    """Return the envelope of a body, over what the headers of the request say; the headers' own for
    null. Raise `InvalidEnvelopeError`."""
    try:
        fields = _decode(raw)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    if fields is None:
        return headers
    own: dict[str, str] = fields.metadata or {}
    metadata = {**headers.metadata, **own}
    check_metadata(metadata)
    return Envelope(
        read_correlation_id(fields.correlation_id or "") or headers.correlation_id,
        metadata,
        None if fields.timeout_ms is None else min(fields.timeout_ms, TIMEOUT_MS_MAX) / 1000,
        _read_provider_args(fields.provider_args or {}),
        fields.secondary_model_index,
        fields.resource_config_overrides,
    )


def read_correlation_id(text: str) -> str | None:
    """Return a correlation id without control characters; None for an empty one. Raise
    `InvalidEnvelopeError`."""
    text = _CONTROLS.sub("", text).strip()
    if len(text) > CORRELATION_ID_CHARACTERS_MAX:
        message = (
            f"Invalid 'vmx.correlationId': at most {CORRELATION_ID_CHARACTERS_MAX} characters are "
            "accepted."
        )
        raise InvalidEnvelopeError(message, param="vmx.correlationId", should_retry=False)
    return text or None


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise `InvalidEnvelopeError` for metadata beyond the limits."""
    param, message = "vmx.metadata", ""
    if len(metadata) > METADATA_PAIRS_MAX:
        message = f"at most {METADATA_PAIRS_MAX} pairs are accepted, those of headers included."
    for key, value in metadata.items():
        if not key or len(key) > METADATA_KEY_MAX:
            message = f"a key has 1 to {METADATA_KEY_MAX} characters."
        elif len(value) > METADATA_VALUE_MAX:
            param = f"vmx.metadata.{key}"
            message = f"a value has at most {METADATA_VALUE_MAX} characters."
    if message:
        raise InvalidEnvelopeError(f"Invalid '{param}': {message}", param=param, should_retry=False)


def _read_provider_args(args: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the fields for the provider, without those that are the gateway's own."""
    for name in args:
        # As in bodies: some providers ignore the case of names.
        if name.casefold() in GATEWAY_FIELDS:
            raise InvalidEnvelopeError(
                f"Invalid 'vmx.providerArgs.{name}': set `{name}` in the body of the request.",
                param=f"vmx.providerArgs.{name}",
                should_retry=False,
            )
    return {name: value for name, value in args.items() if name.casefold() not in _LEFT_OUT}


def _explain(text: str) -> InvalidEnvelopeError:
    """Return the error for a message of the decoder, such as "Expected `str`, got `int` - at
    `$.correlationId`"."""
    found = _PLACE.search(text)
    param = NAME if found is None else NAME + found[1]
    reason = text if found is None else text[: found.start()]
    message = f"Invalid '{param}': {reason[0].lower()}{reason[1:]}."
    return InvalidEnvelopeError(message, param=param, should_retry=False)
