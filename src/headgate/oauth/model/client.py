"""Applications that want to be connected, as they describe themselves.

An application is known by the address of its metadata document, or by a `client_id` that
registration made of its description: it holds everything, so registrations are not stored, and
never expire. Such an id proves nothing, as registering proves nothing: anybody may register
anything. So it is checked, whenever it is read, as a registration is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

import msgspec

from headgate.accounts.model import InvalidNameError, check_name
from headgate.kit.http.url import parse_url
from headgate.oauth.model.errors import (
    InvalidClientMetadataError,
    InvalidRedirectUriError,
    UnknownOAuthClientError,
)
from headgate.oauth.model.redirects import check_redirect_uri, drop_port, matches_redirect_uri

CLIENT_ID_CHARACTERS_MAX = 8_192
REDIRECT_URIS_MAX = 12
NAME_CHARACTERS_MAX = 100
REGISTERED_PREFIX = "hg_client_"
DIGEST_BYTES = 6
UNNAMED = "An application without a name"
PUBLIC = "none"
_PUBLIC_URL = re.compile(r"https://[^/?#@\\]+/[^?#]*[^?#/]")
_DOTS = re.compile(r"/\.{1,2}(?:/|$)")


class OAuthClient(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an application. `host` is the one that publishes its metadata document, and the only
    thing about it that is proved; empty for a registered one."""

    id: str
    name: str
    redirect_uris: tuple[str, ...]
    host: str = ""

    def find_redirect_uri(self, uri: str | None) -> str:
        """Return where to send the browser. Without one, the only registered address counts. Raise
        `InvalidRedirectUriError`."""
        if uri is None and len(self.redirect_uris) == 1:
            return self.redirect_uris[0]
        if uri is None:
            raise InvalidRedirectUriError("Name the redirect_uri.", param="redirect_uri")
        check_redirect_uri(uri)
        if not any(matches_redirect_uri(each, uri) for each in self.redirect_uris):
            raise InvalidRedirectUriError(
                f"The redirect URI {uri!r} is not one that the application has registered.",
                param="redirect_uri",
            )
        return uri


class ClientMetadata(msgspec.Struct, kw_only=True):
    """Hold what is read of a description (RFC 7591); unknown members are ignored."""

    redirect_uris: list[str]
    client_name: str | None = None
    client_id: str | None = None
    token_endpoint_auth_method: str | None = None
    token_endpoint_auth_methods_supported: list[str] | None = None


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str | list[str]).decode
_decode_metadata = msgspec.json.Decoder(ClientMetadata).decode
_decode_registered = msgspec.json.Decoder(tuple[str, list[str]]).decode


def register_client(body: bytes) -> tuple[OAuthClient, dict[str, Any]]:
    """Return the application that a registration describes, and the answer to it.

    Raise `InvalidClientMetadataError` and `InvalidRedirectUriError`.
    """
    metadata = _parse_metadata(body)
    client = build_registered_client(metadata.client_name, metadata.redirect_uris)
    return client, {
        **_read_repeated(body),
        "client_id": client.id,
        "client_name": client.name,
        "redirect_uris": metadata.redirect_uris,
        "token_endpoint_auth_method": PUBLIC,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }


def build_registered_client(name: str | None, redirect_uris: Sequence[str]) -> OAuthClient:
    """Return an application whose id is made of its description: the same one for the same."""
    uris = _check_redirect_uris(redirect_uris)
    # A program that takes another free port at each start stays the same application.
    kept = list(dict.fromkeys(drop_port(each) for each in uris))
    described = msgspec.json.encode((_clean_name(name), kept))
    digest = hashlib.sha256(described).digest()[:DIGEST_BYTES]
    encoded = base64.urlsafe_b64encode(digest + described).rstrip(b"=").decode()
    client_id = REGISTERED_PREFIX + encoded
    if len(client_id) > CLIENT_ID_CHARACTERS_MAX:
        raise InvalidClientMetadataError("The redirect URIs are too long together.")
    return OAuthClient(id=client_id, name=_clean_name(name), redirect_uris=uris)


def parse_registered_client(client_id: str) -> OAuthClient:
    """Return the application of an id that registration made. Raise `UnknownOAuthClientError`."""
    encoded = client_id.removeprefix(REGISTERED_PREFIX)
    try:
        decoded = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        name, uris = _decode_registered(decoded[DIGEST_BYTES:])
        client = build_registered_client(name, uris)
    except (ValueError, InvalidRedirectUriError, InvalidClientMetadataError) as error:
        raise _unknown(client_id) from error
    if client.id != client_id:
        raise _unknown(client_id)
    return client


def is_document_address(client_id: str) -> bool:
    return client_id.startswith("https://")


def check_document_address(client_id: str) -> None:
    """Raise `UnknownOAuthClientError` for an address that no metadata document may have."""
    try:
        parse_url(client_id)
    except ValueError as error:
        raise _bad_document(client_id, str(error)) from error
    path = urllib.parse.urlsplit(client_id).path
    if not _PUBLIC_URL.fullmatch(client_id) or _DOTS.search(path):
        raise _bad_document(client_id, "it needs a path, and no query, fragment or dots as steps")


def read_document(client_id: str, body: bytes) -> OAuthClient:
    """Return the application that a metadata document describes. Raise
    `UnknownOAuthClientError`."""
    try:
        metadata = _parse_metadata(body)
        uris = _check_redirect_uris(metadata.redirect_uris)
    except (InvalidClientMetadataError, InvalidRedirectUriError) as error:
        raise _bad_document(client_id, error.message) from error
    if metadata.client_id != client_id:
        raise _bad_document(client_id, "its client_id is not its own address, letter for letter")
    methods = {
        metadata.token_endpoint_auth_method or PUBLIC,
        *(metadata.token_endpoint_auth_methods_supported or ()),
    }
    if PUBLIC not in methods:
        raise _bad_document(client_id, "only the token_endpoint_auth_method `none` is used here")
    host = urllib.parse.urlsplit(client_id).netloc
    return OAuthClient(
        id=client_id, name=_clean_name(metadata.client_name), redirect_uris=uris, host=host
    )


def _parse_metadata(body: bytes) -> ClientMetadata:
    try:
        return _decode_metadata(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidClientMetadataError(f"The description cannot be read: {error}.") from error


def _read_repeated(body: bytes) -> dict[str, str | list[str]]:
    """Return the members of a registration that its answer repeats: those that are texts."""
    sent = _decode_members(body)
    repeated: dict[str, str | list[str]] = {}
    for name in _REPEATED:
        with contextlib.suppress(msgspec.MsgspecError):
            if name in sent:
                repeated[name] = _decode_text(sent[name])
    return repeated


def _check_redirect_uris(uris: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(uris) <= REDIRECT_URIS_MAX:
        raise InvalidClientMetadataError(
            f"An application has 1 to {REDIRECT_URIS_MAX} redirect_uris.", param="redirect_uris"
        )
    return tuple(dict.fromkeys(map(check_redirect_uri, uris)))


def _clean_name(name: str | None) -> str:
    """Return a name that can be shown: nobody fails to connect for a name."""
    try:
        return check_name((name or "")[:NAME_CHARACTERS_MAX])
    except InvalidNameError:
        return UNNAMED


def _unknown(client_id: str) -> UnknownOAuthClientError:
    return UnknownOAuthClientError(
        f"The client_id {client_id[:80]!r} was not issued here. Register the application again.",
        param="client_id",
    )


def _bad_document(client_id: str, reason: str) -> UnknownOAuthClientError:
    return UnknownOAuthClientError(
        f"The metadata document {client_id[:200]!r} cannot be used: {reason.rstrip('.')}.",
        param="client_id",
    )


_REPEATED = ("client_uri", "logo_uri", "scope", "contacts", "tos_uri", "policy_uri", "software_id")
"""Members of a registration that are repeated in its answer, and mean nothing here."""
