"""Find the endpoint that a request is for."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.path_tree import PathTree
from headgate.llm.endpoint import Endpoint

ANY_METHOD = "*"

_RARE_METHODS = frozenset({"LINK", "PURGE", "UNLINK"})
"""Methods that no known address has. They go on as requests to an unknown one."""
METHODS = _RARE_METHODS | {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
"""No others are passed on: TRACE would make a provider echo the secret that it was sent."""

PLATFORM_SEGMENTS = frozenset({"budgets", "invoices", "receipts", "usage", "wallet", "webhooks"})
"""The first segments below `/v1` that belong to the platform's own operations. They are served by
the platform API and never sent to a provider, in whatever spelling (decision 0030)."""
_OWN_SEGMENTS = PLATFORM_SEGMENTS | {"completion"}
"""Those, and the prefix of VM-X, which is taken off a path before it is matched."""

_PASSING_METHODS = _RARE_METHODS | {"HEAD", "OPTIONS"}
# A provider may decode or normalize a path before it routes it. A path that could then be another
# endpoint is refused: an empty or dot segment, also with parameters (`..;`), a final slash, an
# escape of a character that needs none, or of a slash, a backslash, a percent sign or a control
# character.
_AMBIGUOUS = re.compile(
    r"//|/\Z|/\.{0,2}(?:;|%3[bB])|/\.{1,2}(?:/|\Z)|[\x00-\x20\x7f\\?#]"
    r"|%(?![2-9a-fA-F][0-9a-fA-F])"
    r"|%(?:2[5dDeEfF]|3[0-9]|[46][1-9a-fA-F]|5[0-9aAcCfF]|7[0-9aAeEfF])"
)
_ENDS = re.compile(r"[?#]")


class MethodNotAllowedError(HeadgateError):
    """The address exists, but not with this method.

    Use a method of the header `Allow`.
    """

    kind = Kind.METHOD
    code = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not allowed on {path}; it accepts {', '.join(allowed)}.")
        self.allowed = allowed


class InvalidPathError(HeadgateError):
    """The path could be read in two ways.

    Use the plain path: no empty or dotted segments, no needless escapes. A base URL ends in `/v1`.
    """

    kind = Kind.INVALID
    code = "invalid_path"


class UnknownUrlError(HeadgateError):
    """The address is unknown, or repeats a part of the base URL.

    Check the base URL of the client; it ends in `/v1`.
    """

    kind = Kind.MISSING
    code = "unknown_url"

    def __init__(self, method: str, path: str, excess: str) -> None:
        super().__init__(
            f"Nothing is served at {method} /v1{path}: the client's base URL has a superfluous "
            f"{excess}."
        )
        self.excess = excess


def find_client_base_url(base_url: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the base URL that a client needs, from the one of OpenAI's clients, which ends in
    `/v1`: those of Anthropic add that themselves."""
    is_for_anthropic = path.rpartition("/")[2] == "messages" or any(
        name == b"anthropic-version" for name, _ in headers
    )
    return base_url.removesuffix("/v1") if is_for_anthropic else base_url


class UnknownPlatformPathError(HeadgateError):
    """The address looks like one of the gateway's own operations, in another spelling.

    Use the exact path of the documentation: lower case, no escapes, no slash at its end.
    """

    kind = Kind.MISSING
    code = "unknown_url"

    def __init__(self, method: str, path: str) -> None:
        super().__init__(
            f"Nothing is served at {method} /v1{path}. Check the spelling of the path."
        )


class RouteTable:
    """Match requests to endpoints. Literal segments win over `{id}`, and that over `{rest}`.

    With `is_open`, a provider is asked with any method at an address where nothing costs: it
    knows best which ones it has.
    """

    def __init__(self, table: tuple[Endpoint, ...], *, is_open: bool = False) -> None:
        self._is_open = is_open
        self._literal: dict[tuple[str, str], Endpoint] = {}
        self._paths = frozenset(each.path for each in table if "{" not in each.path)
        self._metered = tuple(
            each.path for each in table if each.path in self._paths and each.is_metered
        )
        self._tree: PathTree[dict[str, Endpoint]] = PathTree()
        self._fallback = self._tree.setdefault("/{rest}", {})
        for endpoint in table:
            self._add(endpoint)

    def match(self, method: str, path: str) -> Endpoint:
        """Return the endpoint for a path below `/v1`, as it was sent, without its query.

        HEAD, OPTIONS and rare methods fall back to the endpoint that takes any method. Raise
        `InvalidPathError`, `UnknownUrlError` for a path that a wrong base URL leads to,
        `UnknownPlatformPathError` for one that a provider could take for a path of the platform,
        and `MethodNotAllowedError` when only other methods have an endpoint, or for a method that
        is never passed on.
        """
        return self._literal.get((method, path)) or self._search(method, path)

    def _add(self, endpoint: Endpoint) -> None:
        rows = self._tree.setdefault(endpoint.path, {})
        for method in endpoint.methods:
            if rows.setdefault(method, endpoint) is not endpoint:
                raise ValueError(f"two rows for {method} {endpoint.path}")
            if "{" not in endpoint.path:
                self._literal[method, endpoint.path] = endpoint

    def _search(self, method: str, path: str) -> Endpoint:
        if _AMBIGUOUS.search(path) or not path.startswith("/"):
            _check_platform_path(method, path)
            raise InvalidPathError(
                "The path is ambiguous: it has an empty or a dot segment, a slash at its end, or a "
                "needless escape. A client's base URL ends in /v1, without a slash after it."
            )
        if method not in METHODS:
            raise MethodNotAllowedError(method, path, tuple(sorted(METHODS)))
        excess = self._find_excess(path.lower())
        if excess:
            raise UnknownUrlError(method, path, excess)
        rows = self._tree.find(path.split("/")) or self._fallback
        # An unknown path passes, but not one that a careless provider would take for a known one.
        if rows is self._fallback:
            _check_platform_path(method, path)
            if self._tree.find(_read_loosely(path)) is not rows:
                raise InvalidPathError("The path is only valid in lower case and without escapes.")
        found = rows.get(method) or rows.get(ANY_METHOD)
        if found is None and (method in _PASSING_METHODS or self._is_passing(rows)):
            found = self._fallback.get(ANY_METHOD)
        if found is None:
            raise MethodNotAllowedError(method, path, tuple(sorted(rows)))
        return found

    def _is_passing(self, rows: Mapping[str, Endpoint]) -> bool:
        return self._is_open and not any(row.is_metered for row in rows.values())

    def _find_excess(self, path: str) -> str:
        """Return what a base URL that ends in more than one `/v1` put before a known path."""
        before, version, _ = path.rpartition("/v1/")
        if version and (not before or path[len(before) + len("/v1") :] in self._paths):
            return f"{before}/v1"
        for known in self._metered if path not in self._paths else ():
            if path.startswith(f"{known}/") and path.removeprefix(known) in self._paths:
                return known
        return ""


def _check_platform_path(method: str, path: str) -> None:
    """Raise `UnknownPlatformPathError` for any spelling of a path of the platform's own."""
    if not _OWN_SEGMENTS.isdisjoint(_read_loosely(path)[1:2]):
        raise UnknownPlatformPathError(method, path)


def _read_loosely(path: str) -> list[str]:
    """Split a path as a careless provider might.

    In lower case, without escapes and parameters, and ending where a query or a fragment would
    begin.
    """
    plain = _ENDS.split(urllib.parse.unquote(path).lower(), maxsplit=1)[0]
    segments = [segment.partition(";")[0].strip() for segment in plain.split("/")]
    return ["", *filter(None, segments)]
