"""Signature Version 4 of AWS, as a pure function of request, credentials and time.

Source: docs.aws.amazon.com, "Create a signed AWS API request" (IAM User Guide).
"""

from __future__ import annotations

import datetime
import hashlib
import hmac

import msgspec

from headgate.kit.http.message import Headers

ALGORITHM = "AWS4-HMAC-SHA256"


class Signer(msgspec.Struct, frozen=True):
    """Hold the credentials that sign, and the service and region that they sign for."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    region: str
    service: str

    def __repr__(self) -> str:
        return f"Signer({self.access_key_id}, {self.region}, {self.service})"


def sign(signer: Signer, path: str, headers: Headers, body: bytes, *, now: float) -> Headers:
    """Return the headers of a POST without a query, with those that authenticate it. `headers` has
    the host and all else to be signed; `now` is in unix seconds."""
    return _sign(signer, "POST", path, headers, body, now=now)


def _sign(
    signer: Signer, method: str, path: str, headers: Headers, body: bytes, *, now: float
) -> Headers:
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    stamp, day = f"{at:%Y%m%dT%H%M%SZ}", f"{at:%Y%m%d}"
    headers = [*headers, (b"x-amz-date", stamp.encode())]
    if signer.session_token:
        headers.append((b"x-amz-security-token", signer.session_token.encode()))
    ordered = sorted((name.decode(), value.decode().strip()) for name, value in headers)
    names = ";".join(name for name, _ in ordered)
    lines = "".join(f"{name}:{value}\n" for name, value in ordered)
    canonical = "\n".join([method, path, "", lines, names, hashlib.sha256(body).hexdigest()])
    scope = f"{day}/{signer.region}/{signer.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = _mac(derive_key(signer, day), f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()
    authorization = (
        f"{ALGORITHM} Credential={signer.access_key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return [*headers, (b"authorization", authorization.encode())]


def derive_key(signer: Signer, day: str) -> bytes:
    """Derive the signing key of one day (`20150830`), region and service."""
    key = f"AWS4{signer.secret_access_key}".encode()
    for part in (day, signer.region, signer.service, "aws4_request"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
