"""What the vault reads: base URLs of anybody, and sealed boxes that somebody may have changed."""

from __future__ import annotations

import contextlib
import re

import httpx2

from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.keys import InvalidMasterKeyError
from headgate.vault.service.master_key import parse_master_key
from rigs.fuzz.checks.chunks import split_first_byte

_KEY = SecretKey(bytes(range(100, 132)))
_BOUND = b"here"
_ENVELOPE = crypto.seal_envelope(_KEY, b"sk-0123456789abcdefghij", bound_to=_BOUND)
_PATH = re.compile(rb"(/[!$&'()*+,;=:@A-Za-z0-9._~%-]+)*")


def check_base_url(data: bytes) -> None:
    """Check that another client's parser reads an accepted URL as the same origin."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        origin, path = parse_base_url(text)
    except InvalidCredentialError:
        return
    other = httpx2.URL(text)
    assert other.scheme == origin.scheme
    assert other.raw_host.decode().lower().strip("[]") == origin.host
    assert (other.port or {"http": 80, "https": 443}[origin.scheme]) == origin.port
    assert not other.userinfo
    assert other.query == b""
    assert other.raw_path.rstrip(b"/") == path
    assert _PATH.fullmatch(path)
    assert b"/../" not in path + b"/"
    again = f"{origin.scheme}://[{origin.host}]" if ":" in origin.host else str(origin)
    assert parse_base_url(again)[0].host == origin.host


def check_box(data: bytes) -> None:
    """Check that only sealed data opens, and any defect of a box raises `BrokenSealError`."""
    with contextlib.suppress(BrokenSealError):
        crypto.open_envelope(_KEY, data, bound_to=_BOUND)
        assert data == _ENVELOPE
    order, changes = split_first_byte(data)
    place = (order * 256 + len(changes)) % len(_ENVELOPE)
    changed = _ENVELOPE[:place] + changes + _ENVELOPE[place + len(changes) :]
    with contextlib.suppress(BrokenSealError):
        crypto.open_envelope(_KEY, changed, bound_to=_BOUND)
        assert changed == _ENVELOPE


def check_master_key(data: bytes) -> None:
    """Check that a master key is 32 bytes that cannot be guessed, or is refused."""
    with contextlib.suppress(InvalidMasterKeyError):
        material = parse_master_key(data.decode("latin-1"), "here")
        assert len(material) == 32
        assert len(set(material)) >= 16
