"""Parse addresses of database servers: `postgresql://user:password@host:port/database`."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from headgate.kit.errors import HeadgateError, Kind

SCHEMES = ("postgresql", "postgres")
_VARIABLE = "HEADGATE_DATABASE_URL"
_FORM = "write postgresql://user:password@host:port/database"


class InvalidDatabaseUrlError(HeadgateError):
    """`HEADGATE_DATABASE_URL` is not the address of a supported database.

    Write it as the message says.
    """

    kind = Kind.INVALID
    code = "database_url_refused"


def name_database(url: str) -> str:
    """Return the URL without user, password and options. Raise `InvalidDatabaseUrlError`."""
    scheme, colon, _ = url.partition("://")
    if not colon:
        raise InvalidDatabaseUrlError(f"{_VARIABLE} is no URL: {_FORM}.", param="database_url")
    if scheme not in SCHEMES:
        message = f"{_VARIABLE} has the scheme {scheme[:32]!r}, which is not supported: {_FORM}."
        raise InvalidDatabaseUrlError(message, param="database_url")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        message = f"{_VARIABLE} has a host or a port that cannot be: {_FORM}."
        raise InvalidDatabaseUrlError(message, param="database_url") from None
    if parts.fragment:
        message = f"{_VARIABLE} has a '#' in it: in a password, write it as %23."
        raise InvalidDatabaseUrlError(message, param="database_url")
    if len(parts.path) < 2 or "/" in parts.path[1:]:
        message = f"{_VARIABLE} names no database after its host: {_FORM}."
        raise InvalidDatabaseUrlError(message, param="database_url")
    host = host or ",".join(parse_qs(parts.query).get("host", ["localhost"]))
    place = f"[{host}]" if ":" in host else host
    return f"postgresql://{place}{f':{port}' if port else ''}{parts.path}"
