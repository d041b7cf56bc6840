"""What a key that is limited to some models sees of `/v1/models`: those, and no others."""

from __future__ import annotations

import urllib.parse
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.admission import is_in_scope
from headgate.relay.upstream import ProviderBroken

PATH = b"/models"


class ModelHidden(HeadgateError):
    kind = Kind.MISSING
    code = "model_not_found"


class _Entry(msgspec.Struct):
    id: str


_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_entry_decoder = msgspec.json.Decoder(_Entry)


def check_visible(path: bytes, allowed: tuple[str, ...]) -> None:
    """Refuse the address of a model that is not among the allowed ones, as if there were none."""
    model = urllib.parse.unquote(path[len(PATH) + 1 :].decode("latin-1"))
    if model and not is_in_scope(model, allowed):
        message = f"The model '{model}' does not exist or this key has no access to it."
        raise ModelHidden(message, param="model")


def narrow(body: bytes, allowed: tuple[str, ...]) -> bytes:
    """The list without the models that are not allowed, every other byte of its values kept.

    Raises `ProviderBroken` for what is no list of models: it might name any.
    """
    try:
        fields: dict[str, Any] = dict(_fields_decoder.decode(body))
        rows = _rows_decoder.decode(fields["data"])
        fields["data"] = [
            row for row in rows if is_in_scope(_entry_decoder.decode(row).id, allowed)
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise ProviderBroken("The provider's list of models cannot be read.") from error
    return msgspec.json.encode(fields)
