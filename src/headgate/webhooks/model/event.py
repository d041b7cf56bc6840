"""Make the body of a delivery from an event of the outbox.

Events are stored as the structs of their features. The body has one shape for all of them: amounts
in nano-dollars get a sibling in decimal dollars, times become ISO 8601, and durations of what did
not happen become null. `docs/webhook-events.md` shows an example of each event.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headgate.kit.money import format_dollars

API_VERSION = "2026-11-30"
BODY_BYTES_MAX = 20_000
"""Standard Webhooks asks for bodies below 20 kB."""
MICROSECONDS = 1_000_000

_NANO = "_nano"
_WRAPPERS = ("receipt",)
"""Events that only carry one object have it in this member; the body has it as `object`."""
_TAG = "event"
_UNSTORED = ("path", "request_bytes", "response_bytes")
"""Fields of a receipt that only observers see."""
_ALWAYS_COUNTED = {"input_tokens": 0, "output_tokens": 0}
_TEXT_MAX = 256


class StoredEvent(msgspec.Struct, frozen=True):
    """Hold an event of the outbox, parsed. `created_at` is in unix microseconds."""

    id: str
    type: str
    created_at: int
    key: str
    organization_id: str
    object: dict[str, Any]


def name_event(outbox_id: str) -> str:
    """Return the public id of an event: the same for the same row of the outbox."""
    return "evt_" + hashlib.sha256(outbox_id.encode()).hexdigest()[:32]


def name_delivery(event_id: str, endpoint_id: str) -> str:
    """Return the id of the one delivery of an event to an endpoint."""
    return "whd_" + hashlib.sha256(f"{event_id}:{endpoint_id}".encode()).hexdigest()[:32]


def parse_event(row: tuple[str, int, str, str, bytes]) -> StoredEvent:
    """Return an event of the outbox. Without an organization of its own, its key names it."""
    outbox_id, created_at, topic, key, payload = row
    fields: Any = msgspec.json.decode(payload)
    for wrapper in _WRAPPERS:
        if isinstance(fields.get(wrapper), dict):
            fields = fields[wrapper]
            for name in _UNSTORED:
                fields.pop(name, None)
    fields.pop(_TAG, None)
    organization_id = fields.get("organization_id") or key
    return StoredEvent(name_event(outbox_id), topic, created_at, key, organization_id, fields)


def render_body(event: StoredEvent) -> bytes:
    """Return the body, below `BODY_BYTES_MAX`. An object that is too large loses its long texts and
    lists, and then has `truncated: true`."""
    body = _encode(event, _render(event.object))
    if len(body) < BODY_BYTES_MAX:
        return body
    short = {
        name: value
        for name, value in event.object.items()
        if value is None or isinstance(value, int | float) or _is_short(value)
    }
    return _encode(event, {**_render(short), "truncated": True})


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT_MAX


def _encode(event: StoredEvent, rendered: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(
        {
            "id": event.id,
            "type": event.type,
            "created": format_moment(event.created_at / MICROSECONDS),
            "api_version": API_VERSION,
            "data": {"object": rendered},
        }
    )


def _render(fields: Mapping[str, Any]) -> dict[str, Any]:
    rendered: dict[str, Any] = {}
    for name, value in fields.items():
        if name.endswith(_NANO) and isinstance(value, int):
            rendered[name] = value
            rendered[name.removesuffix(_NANO)] = format_dollars(value)
        elif name.endswith(("_at", "_since")) and isinstance(value, int | float):
            rendered[name] = format_moment(value)
        elif name.endswith("_microseconds") and value == -1:
            rendered[name] = None
        elif name == "usage" and isinstance(value, dict):
            rendered[name] = _ALWAYS_COUNTED | cast("dict[str, Any]", value)
        elif isinstance(value, dict):
            rendered[name] = _render(cast("dict[str, Any]", value))
        elif name == "metadata" and isinstance(value, str):
            rendered[name] = _parse_metadata(value)
        else:
            rendered[name] = value
    return rendered


def _parse_metadata(text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return {}


def format_moment(unix_seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(unix_seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
