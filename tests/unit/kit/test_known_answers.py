"""The ciphers under the vault give the answers that their authors have published (V8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from headgate.kit import crypto

ANSWERS: dict[str, Any] = msgspec.json.decode(
    (Path(__file__).parents[2] / "golden" / "vault" / "known_answers.json").read_bytes()
)


def read(case: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


@pytest.mark.parametrize("case", ANSWERS["aes_256_gcm"], ids=lambda case: case["name"])
def test_cipher_gives_the_published_answer_and_refuses_every_other_tag(
    case: dict[str, str],
) -> None:
    key, nonce, plaintext, bound_to = read(case, "key", "nonce", "plaintext", "bound_to")
    sealed = bytes.fromhex(case["ciphertext"] + case["tag"])
    cipher = crypto.AESGCM(key)
    assert cipher.encrypt(nonce, plaintext, bound_to) == sealed
    assert cipher.decrypt(nonce, sealed, bound_to) == plaintext
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidTag):
            cipher.decrypt(nonce, bytes(changed), bound_to)


@pytest.mark.parametrize("case", ANSWERS["hkdf_sha256"], ids=lambda case: case["name"])
def test_derived_key_is_the_published_one(case: dict[str, str]) -> None:
    material, salt, info, key = read(case, "material", "salt", "info", "key")
    derive = crypto._derive  # pyright: ignore[reportPrivateUsage]
    assert derive(material, salt, info, len(key)) == key
