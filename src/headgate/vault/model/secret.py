"""Stored secrets, and the references by which credentials name them.

Whoever stores a secret decides the one origin that it may be sent to: that of `base_url`, or else
the address of the integration that the credential belongs to. Otherwise a credential with an
attacker's address and a reference to somebody's secret would disclose it.
"""

from __future__ import annotations

import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
VALUE_CHARACTERS_MAX = 4096
HINT_CHARACTERS_MIN = 20
HINT_CHARACTERS = 4
DOTS = "...."
_MARK = "{{"
_REFERENCE = re.compile(rf"\{{\{{\s*vault:\s*({NAME.pattern})\s*\}}\}}")
_VALUE = re.compile(r"[\x21-\x7e]+")


class SecretRecord(msgspec.Struct, frozen=True):
    """Hold a stored secret without its value. No project: it belongs to the organization.

    `origin` is where it may be sent, empty for the address of the credential's integration.
    `seal_number` counts seals. Times are in unix seconds.
    """

    id: str
    organization_id: str
    project_id: str | None
    name: str
    origin: str
    key_id: str
    seal_number: int
    hint: str
    service_type: str | None
    description: str | None
    created_by: str | None
    created_at: float
    updated_at: float


class SecretRequest(msgspec.Struct, frozen=True, kw_only=True):
    organization_id: str
    project_id: str | None
    name: str
    value: str
    base_url: str | None = None
    service_type: str | None = None
    description: str | None = None

    def __repr__(self) -> str:
        return f"SecretRequest({self.name})"


class SecretNotFoundError(HeadgateError):
    """There is no stored secret of this name.

    List them with `headgate secrets list`.
    """

    kind = Kind.MISSING
    code = "not_found"


class InvalidSecretError(HeadgateError):
    """A field of the secret is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_secret"


class BrokenReferenceError(HeadgateError):
    """A reference names a stored secret that is missing, or not meant for this address.

    Store the secret with `headgate secrets set`, for this address.
    """

    kind = Kind.INVALID
    code = "secret_reference_broken"


def parse_reference(text: str) -> str | None:
    """Return the name in `{{vault:name}}`; None for a plain value. Raise `BrokenReferenceError` for
    text that looks like a reference but is malformed."""
    if _MARK not in text:
        return None
    found = _REFERENCE.fullmatch(text.strip())
    if found is None:
        message = "A reference must be {{vault:name}}, with nothing before or after it."
        raise BrokenReferenceError(message)
    return found[1]


def write_reference(name: str) -> str:
    return f"{{{{vault:{name}}}}}"


def check_secret_name(name: str) -> str:
    """Return the name. Raise `InvalidSecretError` if it cannot stand in a reference."""
    if not NAME.fullmatch(name):
        message = (
            "A name is 1 to 64 letters, digits, dots, dashes and underscores, "
            "and begins with a letter or a digit."
        )
        raise InvalidSecretError(message, param="key_name")
    return name


def check_secret_value(value: str) -> str:
    """Return the value. Raise `InvalidSecretError` if it cannot be sent in a header."""
    if len(value) > VALUE_CHARACTERS_MAX or not _VALUE.fullmatch(value):
        message = (
            f"A value must be 1 to {VALUE_CHARACTERS_MAX} printable characters without spaces."
        )
        raise InvalidSecretError(message, param="value")
    if _MARK in value:
        raise InvalidSecretError("A value cannot itself be a reference.", param="value")
    return value


def hint_secret(value: str) -> str:
    """Return a few leading characters and dots; for a short secret dots alone."""
    if len(value) < HINT_CHARACTERS_MIN:
        return DOTS
    return value[:HINT_CHARACTERS] + DOTS
