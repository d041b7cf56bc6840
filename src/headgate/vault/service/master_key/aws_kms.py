"""AWS KMS by its JSON protocol: `Encrypt` and `Decrypt` with an encryption context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headgate.vault.service.master_key.key_service import (
    KeyServiceEndpoint,
    Send,
    call_key_service,
    encode_base64,
    read_base64,
)
from headgate.vault.service.master_key.signing import Signer, sign

PROVIDER = "aws-kms"
HINT = (
    "Check HEADGATE_MASTER_KEY_NAME (the key's ARN, id or alias), the region, that the AWS_ "
    "credentials are valid, and that they may kms:Encrypt and kms:Decrypt with this key."
)


class AwsKms:
    provider = PROVIDER

    def __init__(
        self,
        key_name: str,
        *,
        endpoint: KeyServiceEndpoint,
        signer: Signer,
        send: Send,
        read_time: Callable[[], float],
    ) -> None:
        self.key_name = key_name
        self._endpoint = endpoint
        self._signer = signer
        self._send = send
        self._read_time = read_time

    def wrap(self, material: bytes, context: Mapping[str, str]) -> bytes:
        answer = self._request("Encrypt", {"Plaintext": encode_base64(material)}, context)
        return read_base64(self._endpoint, answer, "CiphertextBlob")

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        answer = self._request("Decrypt", {"CiphertextBlob": encode_base64(wrapped)}, context)
        return read_base64(self._endpoint, answer, "Plaintext")

    def _request(self, action: str, fields: Mapping[str, str], context: Mapping[str, str]) -> Any:
        origin = self._endpoint.origin
        default = {"http": 80, "https": 443}[origin.scheme] == origin.port
        host = str(origin).partition("://")[2]
        body = msgspec.json.encode(
            {"KeyId": self.key_name, "EncryptionContext": dict(context), **fields}
        )
        headers = [
            (b"content-type", b"application/x-amz-json-1.1"),
            (b"host", (host.rpartition(":")[0] if default else host).encode()),
            (b"x-amz-target", f"TrentService.{action}".encode()),
        ]
        path = f"{self._endpoint.base_path.decode()}/"
        signed = sign(self._signer, path, headers, body, now=self._read_time())
        sent = [header for header in signed if header[0] != b"host"]
        return call_key_service(
            self._send, self._endpoint, self._endpoint.build_request("/", sent, body), code="__type"
        )
