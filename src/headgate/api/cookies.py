"""The cookies of a browser: its session, a sign-in that is under way at an issuer, and where to go
after it."""

from __future__ import annotations

from starlette.requests import Request

SESSION = "headgate_session"
FLOW = "headgate_sign_in"
RETURN = "headgate_return"
RETURN_PREFIX = "/oauth/authorize?"
"""The only page to which a sign-in at an issuer returns, beside the console."""
RETURN_CHARACTERS_MAX = 3_500
# Browsers accept such a cookie only from this host, over TLS, and for all paths.
HOST_PREFIX = "__Host-"


class Cookies:
    """Read and write the cookies. Over TLS their names have the `__Host-` prefix, so that a
    neighbouring host cannot plant a session (fixation)."""

    def __init__(self, *, is_secure: bool) -> None:
        self._prefix = HOST_PREFIX if is_secure else ""
        self._suffix = "; Secure" if is_secure else ""

    def read_session(self, request: Request) -> str:
        """Return the session's token, empty for none."""
        return request.cookies.get(self._prefix + SESSION, "")

    def write_session(self, token: str, *, seconds: float) -> str:
        return self._write(SESSION, token, seconds)

    def clear_session(self) -> str:
        return self._write(SESSION, "", 0)

    def read_flow(self, request: Request) -> str:
        """Return the token of a sign-in at an issuer, empty for none."""
        return request.cookies.get(self._prefix + FLOW, "")

    def write_flow(self, token: str, *, seconds: float) -> str:
        return self._write(FLOW, token, seconds)

    def clear_flow(self) -> str:
        return self._write(FLOW, "", 0)

    def read_return(self, request: Request) -> str:
        """Return the path to open after a sign-in at an issuer, empty for none."""
        path = request.cookies.get(self._prefix + RETURN, "")
        return path if path.startswith(RETURN_PREFIX) and path.isprintable() else ""

    def write_return(self, path: str, *, seconds: float) -> str:
        """Write the path, which is percent-encoded. A browser would drop one that is too long."""
        kept = path if len(path) <= RETURN_CHARACTERS_MAX else ""
        return self._write(RETURN, kept, seconds if kept else 0)

    def clear_return(self) -> str:
        return self._write(RETURN, "", 0)

    def _write(self, name: str, value: str, seconds: float) -> str:
        # Lax, not Strict: the redirect back from the issuer must carry the cookie of the sign-in.
        return (
            f"{self._prefix}{name}={value}; Path=/; Max-Age={int(seconds)}; "
            f"HttpOnly; SameSite=Lax{self._suffix}"
        )
