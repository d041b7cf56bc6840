"""Limits how many large bodies are held at a time: files come in base64, whole in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from starlette.requests import Request

from headgate.api.parsing import BODY_BYTES_MAX
from headgate.kit.errors import HeadgateError, Kind

BODIES_MAX = 16


class TooManyLargeBodiesError(HeadgateError):
    """As many large requests are being handled as may be at a time.

    Try again a little later.
    """

    kind = Kind.UNAVAILABLE
    code = "too_many_large_bodies"


class LargeBodies:
    """Count the bodies that are held beyond the usual size."""

    def __init__(self, bodies_max: int = BODIES_MAX) -> None:
        self._bodies_max = bodies_max
        self._held = 0

    @contextlib.contextmanager
    def hold(self, request: Request, bytes_max: int) -> Generator[None]:
        """Hold the place of a body that may be large: a request that announces a usual length, or
        that cannot be larger, needs none. Raise `TooManyLargeBodiesError`."""
        announced = request.headers.get("content-length")
        if bytes_max <= BODY_BYTES_MAX or (announced and int(announced) <= BODY_BYTES_MAX):
            yield
            return
        if self._held >= self._bodies_max:
            raise TooManyLargeBodiesError(
                f"{self._bodies_max} large requests are being handled. Try again in a second.",
                retry_after_seconds=1.0,
            )
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
