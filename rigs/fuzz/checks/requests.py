"""Requests of a client: JSON bodies, forms, tokens."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, cast

from headgate.keys import model as keys
from headgate.keys.model import token as token_format
from headgate.llm import form, request
from headgate.signatures import model as signatures

ENVELOPES = ("vmx", "__vmx_passthrough")
_TOKEN = re.compile(rb"hg_(live|admin)_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


def check_json(data: bytes) -> None:
    """Check that a body is refused with a message, or a change of a member changes nothing else."""
    try:
        read = request.decode(data)
        before = cast("dict[str, Any]", json.loads(data))
        changed = read.with_envelopes_removed().with_usage_asked().with_model("other")
    except request.InvalidRequestError:
        return
    except (ValueError, RecursionError):  # of the other reader: numbers and depths beyond it
        return
    assert read.model == before.get("model")
    assert read.stream is (before.get("stream") is True)
    assert read.has_envelopes is any(name in before for name in ENVELOPES)
    wanted = {name: value for name, value in before.items() if name not in ENVELOPES}
    options = dict(wanted.get("stream_options") or {})
    wanted["stream_options"] = {**options, "include_usage": True}
    wanted["model"] = "other"
    after = json.loads(changed.body)
    if read.includes_usage:
        assert after["stream_options"]["include_usage"] is True
        assert {**after, "stream_options": None} == {**wanted, "stream_options": None}
    else:
        assert after == wanted
    assert request.decode(changed.body).with_usage_asked().with_model("other").body == changed.body


def check_form(data: bytes) -> None:
    """Check that a form is refused with a message, or text before and after it changes nothing."""
    content_type, _, body = data.partition(b"\n")
    header = content_type.decode("latin-1")
    try:
        model = form.read_model(body, header)
    except request.InvalidRequestError:
        return
    assert form.read_model(body + b"\r\nepilogue", header) == model
    assert form.read_model(b"preamble\r\n" + body, header) == model
    assert (model or "").encode() in body
    assert model is None or b"name=" in body.lower()


def check_token(data: bytes) -> None:
    """Check that a token is recognized by form and checksum, and not with a changed character."""
    name = keys.read_public_prefix(data)
    assert (name is not None) == (_TOKEN.fullmatch(data) is not None and has_checksum(data))
    secret = token_format.encode_base62(int.from_bytes(data[:32]), token_format.SECRET_LENGTH)
    body = f"hg_live_{secret[-12:]}_{secret}".encode()
    token = (
        body + token_format.encode_base62(zlib.crc32(body), token_format.CHECKSUM_LENGTH).encode()
    )
    assert keys.read_public_prefix(token) == body[:20].decode()
    place = sum(data) % len(token)
    other = b"x" if token[place : place + 1] != b"x" else b"y"
    assert keys.read_public_prefix(token[:place] + other + token[place + 1 :]) is None


def has_checksum(token: bytes) -> bool:
    """Return whether the last six characters are the CRC-32 of the others, in base 62."""
    number = 0
    for digit in token[-6:].decode():
        number = number * 62 + token_format.ALPHABET.index(digit)
    return number == zlib.crc32(token[:-6])


def check_signature(data: bytes) -> None:
    """Check that a header is refused with a message, or its parts cannot be mistaken for others."""
    try:
        read = signatures.parse_signature(data)
    except signatures.InvalidSignatureError:
        return
    parts = (read.at, read.nonce, read.body_digest)
    lines = signatures.describe_request(b"POST", b"/v1/x", read).split(b"\n")
    assert lines == [b"v1", b"POST", b"/v1/x", *parts]
    assert 1 <= len(read.macs) <= signatures.SIGNATURES_MAX
    written = b",".join((b"t=%b,nonce=%b,sha256=%b" % parts, *(b"v1=" + mac for mac in read.macs)))
    assert signatures.parse_signature(written) == read
