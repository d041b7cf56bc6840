"""Sign deliveries as Standard Webhooks 1.0 asks."""

from __future__ import annotations

import base64
import datetime
import secrets
from collections.abc import Sequence

from standardwebhooks.webhooks import Webhook

PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET_BYTES_MIN = 24
"""The specification asks for 24 to 64 bytes; the library itself would accept a single one."""


def make_secret() -> str:
    """Return a new secret, in the form in which it is shown and stored."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def parse_secret(secret: str) -> Webhook:
    """Return the signer of a secret."""
    material = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    assert len(material) >= SECRET_BYTES_MIN, "a secret is too short"
    return Webhook(material)


def sign(signers: Sequence[Webhook], event_id: str, at: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature for each signer. `at` is in unix
    seconds."""
    moment, text = datetime.datetime.fromtimestamp(at, datetime.UTC), body.decode()
    return " ".join(signer.sign(event_id, moment, text) for signer in signers)
