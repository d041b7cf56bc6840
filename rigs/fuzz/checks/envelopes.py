"""Envelopes of VM-X, in requests and around answers."""

from __future__ import annotations

import json
from typing import Any, cast

from headgate.gateway.vmx_answers import decorate_event, put_member, render_request
from headgate.llm import request, sse
from headgate.llm.vmx import (
    NAME,
    PASSTHROUGH,
    Envelope,
    InvalidEnvelopeError,
    parse_envelope,
)

VALUE = b'{"events":[]}'


def check_envelope(data: bytes) -> None:
    """Check that an envelope is refused with the place of its fault, or names no header line of its
    own, and that its arguments are all that changes in a body."""
    try:
        read = request.decode(b'{"model":"m","vmx":%b}' % data)
        raw = read.fields.get("vmx", b"null")
        envelope = parse_envelope(bytes(raw))
    except request.InvalidRequestError as error:
        _check_place(error)
        return
    _check_lines(envelope)
    try:
        changed = read.with_envelopes_removed().with_fields(envelope.provider_args)
        after, before = json.loads(changed.body), json.loads(read.body)
    except (request.InvalidRequestError, ValueError, RecursionError):
        return
    arguments = {name: json.loads(bytes(value)) for name, value in envelope.provider_args.items()}
    own = {name: value for name, value in before.items() if name not in (NAME, PASSTHROUGH)}
    assert after == {**own, **arguments}
    assert after["model"] == before["model"]


def _check_place(error: request.InvalidRequestError) -> None:
    if isinstance(error, InvalidEnvelopeError):
        assert (error.param or "").startswith("vmx")


def _check_lines(envelope: Envelope) -> None:
    head = render_request("req_1", envelope, None)
    lines = head.split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) <= 2 + len(envelope.metadata)
    assert all(line.startswith(b"x-vmx-") and line.isascii() for line in lines)
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)


def check_decoration(data: bytes) -> None:
    """Check that an answer and a chunk get one member, and are the same without it."""
    before: Any
    try:
        before = json.loads(data)
    except (ValueError, RecursionError):
        before = None
    after = put_member(data, VALUE)
    if not isinstance(before, dict):
        return
    expected: dict[str, Any] = {**cast("dict[str, Any]", before), "vmx": {"events": []}}
    try:
        told = json.loads(after)
    except RecursionError:
        return
    assert told == expected or after == data
    event = sse.encode_event(data) if b"\n" not in data and b"\r" not in data else b""
    if event and data.strip() == data and not data.startswith(b'{"error"'):
        chunk = sse.parse_event(decorate_event(event, data, VALUE)).data
        assert json.loads(chunk) == expected
