"""What a connection hears: bytes become requests, or are refused before they are one."""

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

HOT_PREFIX = b"/v1/"
LINE_BYTES = 64
"""More than a request line has beside its target."""
SMALL_HEAD_BYTES = 2 * 1024
SMALL_HEAD_COUNT = 24
"""An unfinished head of more is a large one, of which only so many are kept."""
LINGER_SECONDS = 2.0
DISCARDED_BYTES_MAX = 64 * 1024
"""How long, and how much, a refused sender may go on sending before it is cut."""
NOT_HTTP = "The request is not valid HTTP/1.1."
FRAMING_BYTES_MAX = 64 * 1024
CHUNK_FRAMING_BYTES = 32
"""Of a chunked body, what may be no content: so much in all, beside so much for each piece."""

log = structlog.get_logger(__name__)


class RequestParserProtocol(DeadlineProtocol):
    """A connection that listens. After `_refuse` nothing that arrives is heard any more."""

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
        """Whether the head that arrives is one of the large unfinished ones."""
        self._has_upgrade_offer = False
        """Whether the head that was just read has to be read again, without its offer."""
        self._answering: InboundExchange | None = None
        self._ignore_input = False
        self._is_lingering = False
        self._discarded_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head, or the framing of a body, that does not end is cut off."""
        if self._is_lingering or self._ignore_input:
            self._count_discarded(len(data))
            return
        # The parser tells of a header once it is whole: one without an end is counted here.
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
        """The large head is whole, or will never be."""
        self._is_large = False
        self._edge.large_heads.pop(self, None)

    def _reparse_without_upgrade(self, rest: bytes) -> None:
        """Read a request that offers another protocol as one of HTTP/1.1, in a new parser.

        The old one takes such a request for complete after its head and knows of no body. The new
        one is given the head without the offer, so that it judges the length and the coding of the
        body as it does for every request; `rest` is what followed the head.
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
        log.exception("edge.fault")
        self._close()

    def _limit_head(self) -> None:
        """Give a head that did not come whole its time and its size; most come whole, and cost no
        look at the clock."""
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
        """See `edge.LargeHeadConnection`."""
        self._is_large = False
        if self._in_head and not self._is_closing():
            self._refuse(
                TooManyUnfinishedHeadsError("Too many large heads are unfinished. Try again.")
            )
        # Nothing is heard any more: what the parser keeps of the head goes with it.
        self.headers, self._raw, self.parser = [], b"", None

    # What the parser says of a head.

    def on_message_begin(self) -> None:
        """A head begins; the connection was idle, or the client is ahead of us."""
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
        """One header field; trailers are read past, but for those that belong into a head."""
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
        # A head that came at once in fewer bytes than it may have needs no counting.
        is_long = self._unread_head_bytes > 0 or len(self._raw) > limits.header_bytes_max
        if len(self.headers) > limits.header_count_max or (
            is_long and framing.count_bytes(self.headers) > limits.header_bytes_max
        ):
            return RequestHeadTooLargeError(
                f"At most {limits.header_count_max} headers of {limits.header_bytes_max} bytes "
                "in all are accepted."
            )
        line_end = LINE_ENDS.get(version)
        line = None if line_end is None else b"%b %b%b" % (method, self.url, line_end)
        if line is None or not (self._starts_raw and self._raw.startswith(line)):
            error = framing.check_line(self._raw, line, starts=self._starts_raw)
            if error is not None:
                return error
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
            if self.url.startswith(HOT_PREFIX) and b"#" not in self.url
            else self._normalize_target(method)
        )

    def _check_watched(self, *, is_old: bool) -> HeadgateError | None:
        """What is not the usual: one Host that is known, and a body of a known length or none."""
        watched = self._watched
        hosts = [value for name, value in watched if name == b"host"]
        self._in_chunks = len(hosts) < len(watched) and any(
            name == b"transfer-encoding" for name, _ in watched
        )
        self._framing_bytes = 0
        error = framing.check_coding(watched, is_old=is_old)
        return error or self._edge.hosts.check(hosts, is_old=is_old)

    def _normalize_target(self, method: bytes) -> HeadgateError | None:
        """Read a target that is not just a path below `/v1`."""
        if self.url.startswith(b"/") and b"#" not in self.url:
            return None
        target = framing.read_target(method, self.url, self._watched)
        if isinstance(target, HeadgateError):
            return target
        self.url = target
        return None

    def _refuse(self, error: HeadgateError) -> None:
        """Answer with an error, in its turn, and close."""
        raise NotImplementedError

    def _linger(self) -> None:
        """Read on for a moment, so that the client gets to see the answer before the reset."""
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
            self._refuse(MalformedRequestError("The body is hardly more than its chunks' framing."))

    def _is_busy(self) -> bool:
        """Whether a request is being answered, or arrives."""
        return self.cycle is not None and not self.cycle.response_complete

    def _is_closing(self) -> bool:
        """Whether nothing that still arrives is heard."""
        return self._ignore_input or self._is_lingering or self.transport.is_closing()


def make_parser(protocol: RequestParserProtocol) -> Any:
    """Return a parser as uvicorn makes it for every connection."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
