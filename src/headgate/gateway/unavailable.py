"""Answer model calls with an error while the server cannot serve any."""

from __future__ import annotations

from collections.abc import Callable

from headgate.gateway import errors
from headgate.gateway.exchange import InboundExchange
from headgate.kit.errors import HeadgateError


class UnavailableHandler:
    """Answer every model call with an error (`gateway.edge.RequestHandler`).

    `make_error` makes a new one each time: an error that is raised again keeps its old tracebacks.
    """

    def __init__(
        self,
        make_error: Callable[[], HeadgateError],
        make_id: Callable[[str], str],
        *,
        retry_after_max_seconds: float,
    ) -> None:
        self._make_error = make_error
        self._make_id = make_id
        self._retry_after_max_seconds = retry_after_max_seconds

    def open(self, exchange: InboundExchange) -> None:
        raise self._make_error()

    async def run(self, exchange: InboundExchange) -> None:
        self.refuse(exchange, self._make_error())

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        head = errors.encode_head(error, retry_after_max_seconds=self._retry_after_max_seconds)
        head += b"x-request-id: %b\r\n" % self._make_id("req").encode()
        exchange.answer(error.kind.value, head, errors.encode_body(error, exchange.target))
