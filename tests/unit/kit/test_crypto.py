from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError, SecretKey


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_is_sealed_opens_with_its_key_and_binding(plaintext: bytes, bound_to: bytes) -> None:
    key = SecretKey.generate()
    envelope = crypto.seal_envelope(key, plaintext, bound_to=bound_to)
    assert crypto.open_envelope(key, envelope, bound_to=bound_to) == plaintext
    with pytest.raises(BrokenSealError):
        crypto.open_envelope(key, envelope, bound_to=bound_to + b"x")
    with pytest.raises(BrokenSealError):
        crypto.open_envelope(SecretKey.generate(), envelope, bound_to=bound_to)


def test_every_flipped_bit_is_refused() -> None:
    key = SecretKey.generate()
    envelope = crypto.seal_envelope(key, b"sk-0123456789abcdefghij", bound_to=b"here")
    for position in range(len(envelope) * 8):
        changed = bytearray(envelope)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(BrokenSealError):
            crypto.open_envelope(key, bytes(changed), bound_to=b"here")


def test_every_truncation_is_refused() -> None:
    key = SecretKey.generate()
    box = crypto.seal(key, b"secret", bound_to=b"")
    for length in range(len(box)):
        with pytest.raises(BrokenSealError):
            crypto.open_box(key, box[:length], bound_to=b"")


def test_same_secret_is_sealed_differently_each_time() -> None:
    key = SecretKey.generate()
    boxes = {crypto.seal(key, b"secret", bound_to=b"") for _ in range(100)}
    assert len(boxes) == 100
    assert all(b"secret" not in box for box in boxes)


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_different_fields_never_encode_alike(one: list[str], other: list[str]) -> None:
    same = crypto.encode_fields(*one) == crypto.encode_fields(*other)
    assert same == (one == other)
