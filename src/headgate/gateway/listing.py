"""Parse, filter and write lists of models."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable

import msgspec

from headgate.gateway.model_metadata import FIELD
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.upstream import InvalidProviderResponseError

PATH = b"/models"
BELOW = PATH + b"/"
ESCAPED_SLASH = re.compile(rb"%2[fF]")


class ModelNotListedError(HeadgateError):
    """The model does not exist, or the key may not see it.

    List the models of the key with `GET /v1/models`.
    """

    kind = Kind.MISSING
    code = "model_not_found"


class _Entry(msgspec.Struct):
    id: str


class ListedModel(msgspec.Struct, frozen=True):
    """Hold one model of a list, byte for byte as the provider sent it."""

    id: str
    raw: bytes


class ModelList(msgspec.Struct, frozen=True):
    fields: dict[str, msgspec.Raw]
    rows: list[ListedModel]


_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_entry_decoder = msgspec.json.Decoder(_Entry)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError)


def unescape_slashes(path: bytes) -> bytes:
    """Return a path with plain slashes in the model id, which SDKs escape."""
    return ESCAPED_SLASH.sub(b"/", path)


def find_model(path: bytes) -> str:
    """Return the model that a path below `/models` names; empty for the list itself."""
    return urllib.parse.unquote(path[len(PATH) + 1 :].decode("latin-1"))


def make_not_listed_error(model: str) -> ModelNotListedError:
    """Return the same error for a model that does not exist and for one that must not be seen."""
    message = f"The model '{model}' does not exist or this key has no access to it."
    return ModelNotListedError(message, param="model")


def read(body: bytes) -> ModelList:
    """Parse a provider's list. Raise InvalidProviderResponseError."""
    try:
        fields = _fields_decoder.decode(body)
        rows = _rows_decoder.decode(fields["data"])
        return ModelList(
            fields, [ListedModel(_entry_decoder.decode(row).id, bytes(row)) for row in rows]
        )
    except _UNREADABLE as error:
        raise InvalidProviderResponseError(
            "The provider's list of models cannot be read."
        ) from error


def write(fields: dict[str, msgspec.Raw], rows: Iterable[bytes]) -> bytes:
    """Write a list of these rows; the bytes of its other values are kept."""
    data = b"[%b]" % b",".join(rows)
    return msgspec.json.encode({**fields, "data": msgspec.Raw(data)})


def splice(raw: bytes, metadata: bytes) -> bytes:
    """Add the metadata as the last field of an object, and keep its other bytes.

    A field of that name, such as another Headgate's, is replaced. Raises
    InvalidProviderResponseError if `raw` is no object.
    """
    try:
        fields = _fields_decoder.decode(raw)
    except _UNREADABLE as error:
        raise InvalidProviderResponseError("The provider's model cannot be read.") from error
    if FIELD in fields:
        return msgspec.json.encode({**fields, FIELD: msgspec.Raw(metadata)})
    start = raw.rstrip()[:-1].rstrip()
    comma = b"," if fields else b""
    return b'%b%b"%b":%b}' % (start, comma, FIELD.encode(), metadata)


def write_owned(model_id: str, created_at: float, metadata: bytes, *, owner: str = FIELD) -> bytes:
    """Write a model that no provider's list has, in OpenAI's shape."""
    return msgspec.json.encode(
        {
            "id": model_id,
            "object": "model",
            "created": int(created_at),
            "owned_by": owner,
            FIELD: msgspec.Raw(metadata),
        }
    )
