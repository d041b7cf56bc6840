"""Sign requests as a client does."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import time

_numbers = itertools.count()


def make_signature(
    secret: str,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    at: float | None = None,
    nonce: str | None = None,
) -> dict[str, str]:
    """Return the header of a signed request."""
    moment = str(int(time.time() if at is None else at))
    nonce = nonce or f"nonce-{time.time_ns()}-{next(_numbers)}"
    digest = hashlib.sha256(body).hexdigest()
    text = "\n".join(("v1", method, target, moment, nonce, digest))
    mac = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    return {"x-headgate-signature": f"t={moment},nonce={nonce},sha256={digest},v1={mac}"}
