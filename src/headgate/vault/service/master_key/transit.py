"""The transit engine of OpenBao and Vault: `encrypt` and `decrypt` with associated data."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headgate.vault.service.master_key.key_service import (
    KeyServiceEndpoint,
    KeyServiceUnavailableError,
    Send,
    call_key_service,
    encode_base64,
    encode_context,
    find_text,
    read_base64,
)

PROVIDER = "transit"
HINT = (
    "Check HEADGATE_MASTER_KEY_ADDRESS, HEADGATE_MASTER_KEY_NAME (MOUNT/KEY, such as "
    "transit/headgate), that the server is unsealed, and that the token is valid and its policy "
    "allows update on MOUNT/encrypt/KEY and MOUNT/decrypt/KEY."
)
MOUNT = "transit"
_CIPHERTEXT = re.compile(r"[\x21-\x7e]{8,4096}")


class Transit:
    """Wrap under a key of the transit engine (`KeyManagementService`).

    The key's type must authenticate associated data: aes256-gcm96 (the engine's default) or
    chacha20-poly1305.
    """

    provider = PROVIDER

    def __init__(
        self,
        key_name: str,
        *,
        endpoint: KeyServiceEndpoint,
        read_token: Callable[[], str],
        send: Send,
    ) -> None:
        self.key_name = key_name
        mount, _, name = key_name.rpartition("/")
        self._mount = urllib.parse.quote(mount or MOUNT)
        self._name = urllib.parse.quote(name)
        self._endpoint = endpoint
        self._read_token = read_token
        self._send = send

    def wrap(self, material: bytes, context: Mapping[str, str]) -> bytes:
        answer = self._request("encrypt", {"plaintext": encode_base64(material)}, context)
        ciphertext = find_text(answer, "data.ciphertext")
        if not _CIPHERTEXT.fullmatch(ciphertext):
            endpoint = self._endpoint
            raise KeyServiceUnavailableError(
                f"{endpoint} answers without data.ciphertext. {endpoint.hint}"
            )
        return ciphertext.encode()

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        answer = self._request("decrypt", {"ciphertext": wrapped.decode("latin-1")}, context)
        return read_base64(self._endpoint, answer, "data.plaintext")

    def _request(self, verb: str, fields: Mapping[str, str], context: Mapping[str, str]) -> Any:
        headers = [
            (b"x-vault-token", self._read_token().encode()),
            (b"content-type", b"application/json"),
        ]
        body = msgspec.json.encode({**fields, "associated_data": encode_context(context)})
        path = f"/v1/{self._mount}/{verb}/{self._name}"
        return call_key_service(
            self._send, self._endpoint, self._endpoint.build_request(path, headers, body)
        )
