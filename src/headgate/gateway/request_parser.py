"""Turn the bytes of a connection into requests, or refuse them."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from headgate.gateway import framing
from headgate.gateway.deadlines import DeadlineProtocol
from headgate.gateway.edge import Edge
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.framing import LINE_ENDS, WATCHED_HEADERS
from headgate.gateway.limits import (
    MalformedRequestError,
    RequestHeadTooLargeError,
    TargetTooLongError,
    TooManyUnfinishedHeadsError,
)
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.llm.routes import PLATFORM_SEGMENTS

V1_PREFIX = b"/v1/"
PLATFORM_STARTS = frozenset(each[:5].encode() for each in PLATFORM_SEGMENTS)
"""What `is_platform_path` is asked about: one slice tells nearly every model call apart."""
LINE_BYTES = 64
"""More than a request line has besides its target."""
SMALL_HEAD_BYTES = 2 * 1024
SMALL_HEAD_COUNT = 24
"""Unfinished heads of more count as large (`edge.LARGE_HEADS_MAX`)."""
LINGER_SECONDS = 2.0
DISCARDED_BYTES_MAX = 64 * 1024
"""How long, and how much, a refused client may go on sending before the connection is cut."""
NOT_HTTP = "The request is not valid HTTP/1.1."
FRAMING_BYTES_MAX = 64 * 1024
CHUNK_FRAMING_BYTES = 32
"""How much of a chunked body may be framing: so much in all, besides so much for each chunk."""

log = structlog.get_logger(__name__)


class RequestParserProtocol(DeadlineProtocol):
    """Parse the requests of one connection. After `_refuse`, all further input is ignored."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        edge: Edge,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, edge=edge)
        self._accepted_hosts = edge.hosts.accepted
        self.url = b""
        self.headers = []
        self._unread_head_bytes = 0
        self._in_head = False
        self._raw = b""
        self._starts_raw = False
        self._watched: Headers = []
        self._framing_bytes = 0
        self._in_chunks = False
        self._is_large = False
        """Whether the arriving head counts as a large unfinished one."""
        self._has_upgrade_offer = False
        """Whether the head has to be parsed again, without its offer to upgrade."""
        self._answering: InboundExchange | None = None
        self._ignore_input = False
        self._is_lingering = False
        self._discarded_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and refuse a head or a body's framing that does not end."""
        if self._is_lingering or self._ignore_input:
            self._count_discarded(len(data))
            return
        # The parser reports only whole headers, so a header without an end is counted here.
        if self._in_head:
            self._unread_head_bytes += len(data)
            if len(self._raw) <= self._limits.target_bytes_max + LINE_BYTES:
                self._raw += data
        else:
            self._raw = data
            self._starts_raw = not self._in_body
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            self._reparse_without_upgrade(data[pause.args[0] :])
            return
        except httptools.HttpParserCallbackError:
            self._fail()
            return
        except httptools.HttpParserError:
            self._refuse(MalformedRequestError(NOT_HTTP))
            return
        if self._in_head:
            self._limit_head()
            return
        if self._is_large:
            self._untrack_large_head()
        self._raw = b""
        if self._in_chunks:
            self._count_framing(len(data))

    def _untrack_large_head(self) -> None:
        self._is_large = False
        self._edge.large_heads.pop(self, None)

    def _reparse_without_upgrade(self, rest: bytes) -> None:
        """Parse a request that offers another protocol as HTTP/1.1, with a new parser.

        llhttp takes such a request for complete after its head and knows of no body. The new parser
        gets the head without the offer, so that it judges the length and the coding of the body as
        for every request. `rest` is what followed the head.
        """
        if self._is_large:
            self._untrack_large_head()
        while not self._is_closing():
            head = framing.render_without_upgrade(
                self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
            )
            self.parser = make_parser(self)
            self._raw = data = head + rest
            self._starts_raw = True
            self._has_upgrade_offer = False
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as pause:
                rest = data[pause.args[0] :]
                continue
            except httptools.HttpParserCallbackError:
                self._fail()
            except httptools.HttpParserError:
                self._refuse(MalformedRequestError(NOT_HTTP))
            else:
                if self._in_head:
                    self._limit_head()
                    return
                self._raw = b""
                if self._in_chunks:
                    self._count_framing(len(data))
            return

    def _fail(self) -> None:
        # The parser called one of the methods below, which failed: a bug, not bad input.
        log.exception("edge.fault")
        self._close()

    def _limit_head(self) -> None:
        """Limit the time and the size of a head that did not come whole."""
        # Most heads come whole, so the clock is read for the few others only.
        limits = self._limits
        if not (self.deadline or self._is_closing() or self._is_busy()):
            self.deadline = self._time() + limits.header_seconds
        if self._unread_head_bytes > limits.header_bytes_max + limits.target_bytes_max + LINE_BYTES:
            self._refuse(RequestHeadTooLargeError("The request head is too large."))
            return
        self._is_large = self._is_large or (
            len(self._raw) + self._unread_head_bytes > SMALL_HEAD_BYTES
            or len(self.headers) > SMALL_HEAD_COUNT
        )
        if self._starts_raw:
            self._raw = self._raw[: limits.target_bytes_max + LINE_BYTES]
        if self._is_large:
            self._edge.track_large_head(self)

    def refuse_large_head(self) -> None:
        self._is_large = False
        if self._in_head and not self._is_closing():
            self._refuse(
                TooManyUnfinishedHeadsError(
                    "The server holds too many unfinished request heads. Try again."
                )
            )
        # Further input is ignored, so the memory that the parser holds of the head can go.
        self.headers, self._raw, self.parser = [], b"", None

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._watched = []
        self._unread_head_bytes = 0
        self._in_head = True
        self._in_chunks = False
        if not self._is_closing():
            self.deadline = 0.0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header field. Of trailers, only those that belong into a head are refused."""
        if not self._in_head:
            error = framing.check_trailer(name)
            if error is not None and not self._is_closing():
                self._refuse(error)
            return
        name = name.lower()
        if name in WATCHED_HEADERS and value not in WATCHED_HEADERS[name]:
            self._watched.append((name, value))
        self.headers.append((name, value))

    def _check_head(self, method: bytes, version: str) -> HeadgateError | None:
        limits = self._limits
        if len(self.url) > limits.target_bytes_max:
            return TargetTooLongError(
                f"The request target is longer than {limits.target_bytes_max} bytes."
            )
        # A head that came at once, in fewer bytes than the limit, needs no counting.
        is_long = self._unread_head_bytes > 0 or len(self._raw) > limits.header_bytes_max
        if len(self.headers) > limits.header_count_max or (
            is_long and framing.count_bytes(self.headers) > limits.header_bytes_max
        ):
            return RequestHeadTooLargeError(
                f"At most {limits.header_count_max} headers of {limits.header_bytes_max} bytes "
                "in all are accepted."
            )
        # The parser tolerates more than RFC 9112 3 allows, so the bytes themselves are compared.
        line_end = LINE_ENDS.get(version)
        line = None if line_end is None else b"%b %b%b" % (method, self.url, line_end)
        if line is None or not (self._starts_raw and self._raw.startswith(line)):
            error = framing.check_line(self._raw, line, starts=self._starts_raw)
            if error is not None:
                return error
        # The usual request has one watched header: a Host that was accepted before.
        watched = self._watched
        if len(watched) != 1 or watched[0] not in self._accepted_hosts:
            error = self._check_watched(is_old=version == "1.0")
            if error is not None:
                return error
        error = None
        if self.parser.should_upgrade():
            self._has_upgrade_offer = True
            error = framing.check_upgrade(method, version, self.headers)
        if error is None and method != b"POST":
            error = framing.check_bodiless(method, self.headers)
        if error is not None:
            return error
        return (
            None
            if self.url.startswith(V1_PREFIX) and b"#" not in self.url
            else self._normalize_target(method)
        )

    def _check_watched(self, *, is_old: bool) -> HeadgateError | None:
        """Check everything but the usual: one known Host, and a body of known length or none."""
        watched = self._watched
        hosts = [value for name, value in watched if name == b"host"]
        self._in_chunks = len(hosts) < len(watched) and any(
            name == b"transfer-encoding" for name, _ in watched
        )
        self._framing_bytes = 0
        error = framing.check_coding(watched, is_old=is_old)
        return error or self._edge.hosts.check(hosts, is_old=is_old)

    def _normalize_target(self, method: bytes) -> HeadgateError | None:
        """Reduce a target that is not just a path below `/v1` to path and query."""
        if self.url.startswith(b"/") and b"#" not in self.url:
            return None
        target = framing.read_target(method, self.url, self._watched)
        if isinstance(target, HeadgateError):
            return target
        self.url = target
        return None

    def _refuse(self, error: HeadgateError) -> None:
        """Answer with an error, after the requests that came before, and close."""
        raise NotImplementedError

    def _linger(self) -> None:
        """Read on for a moment, so that the client sees the response before the reset."""
        self._is_lingering = True
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.deadline = self._time() + LINGER_SECONDS

    def _count_discarded(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes <= DISCARDED_BYTES_MAX:
            return
        if self._is_lingering:
            self._close()
        else:
            self.flow.pause_reading()

    def _count_framing(self, size: int) -> None:
        self._framing_bytes = max(0, self._framing_bytes + size)
        if self._framing_bytes > FRAMING_BYTES_MAX:
            self._refuse(MalformedRequestError("The chunks of the request body are too small."))

    def _is_busy(self) -> bool:
        """Return whether a request is being answered, or arrives."""
        return self.cycle is not None and not self.cycle.response_complete

    def _is_closing(self) -> bool:
        """Return whether further input is ignored."""
        return self._ignore_input or self._is_lingering or self.transport.is_closing()


def is_platform_path(target: bytes) -> bool:
    """Return whether a target below `/v1` is one of the platform's own operations."""
    segment = target.partition(b"?")[0].split(b"/", 3)[2]
    return segment.decode("latin-1") in PLATFORM_SEGMENTS


def make_parser(protocol: RequestParserProtocol) -> Any:
    """Return a parser with the settings that uvicorn uses."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
