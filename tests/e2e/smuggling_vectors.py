"""Requests that two readers could understand in two ways, each with a second one inside or behind
it.

They follow RFC 9112 and the known classes of request smuggling. `build` returns them by name. The
hidden request is the marker, a POST to `MARKER_PATH`.
"""

from __future__ import annotations

from dataclasses import dataclass

MARKER_PATH = "/v1/smuggled"
HOST = b"Host: localhost"
LINE = b"POST /v1/files HTTP/1.1"
END = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
OFFER = (b"Connection: Upgrade", b"Upgrade: h2c")


@dataclass(frozen=True)
class Vector:
    """Hold what is sent, and the status that refuses it when it is sent to the gateway itself."""

    raw: bytes
    status: int = 400


class Builder:
    """Build requests that carry a good key: only their framing is wrong."""

    def __init__(self, key: str) -> None:
        self.authorization = b"Authorization: Bearer " + key.encode()
        self.marker = self.request(
            b"Content-Length: 0", line=b"POST %b HTTP/1.1" % MARKER_PATH.encode()
        )

    def request(
        self, *list_header_fields: bytes, line: bytes = LINE, host: bytes = HOST, body: bytes = b""
    ) -> bytes:
        list_request_lines = [line, host, self.authorization, *list_header_fields, b"", b""]
        return (
            b"\r\n".join(each for at, each in enumerate(list_request_lines) if each or at > 2)
            + body
        )

    def list_content_lengths(self) -> dict[str, Vector]:
        """Return invalid Content-Lengths. Some hide the marker in what would be the body."""
        marker, request = self.marker, self.request
        hidden = END + marker
        whole = b"Content-Length: %d" % len(hidden)
        values = {
            "plus": b"+5",
            "minus": b"-5",
            "hexadecimal": b"0x5",
            "trailing letter": b"5x",
            "space inside": b"1 0",
            "tab inside": b"1\t0",
            "comma first": b",5",
            "comma last": b"5,",
            "list of equals": b"5, 5",
            "list": b"5, 6",
            "huge": b"9" * 40,
            "wraps to 5": b"18446744073709551621",
            "empty": b"",
            "fraction": b"5.0",
            "underscore": b"1_0",
            "quoted": b'"5"',
            "full-width digit": "\uff15".encode(),
        }
        found = {
            f"length: {name}": Vector(request(b"Content-Length: " + value, body=b"abcde" + marker))
            for name, value in values.items()
        }
        none = b"Content-Length: 0"
        found["lengths: 5 and 6"] = Vector(
            request(b"Content-Length: 5", b"Content-Length: 6", body=hidden)
        )
        found["lengths: 5 and 5"] = Vector(
            request(b"Content-Length: 5", b"Content-Length: 5", body=b"abcde" + marker)
        )
        found["lengths: all and none"] = Vector(request(whole, none, body=hidden))
        found["lengths: none and all"] = Vector(request(none, whole, body=hidden))
        return found | {
            "length and coding": Vector(request(whole, CHUNKED, body=hidden)),
            "coding and length": Vector(request(CHUNKED, whole, body=hidden)),
            "coding and a short length": Vector(
                request(b"Content-Length: 4", CHUNKED, body=b"5c\r\n" + marker)
            ),
            "coding and length of 0": Vector(request(CHUNKED, b"Content-Length: 0", body=hidden)),
            "length named by Connection": Vector(
                request(b"Connection: content-length", whole, body=hidden)
            ),
            "length named among others by Connection": Vector(
                request(b"Connection: keep-alive, Content-Length", whole, body=hidden)
            ),
            "coding named by Connection": Vector(
                request(b"Connection: transfer-encoding", CHUNKED, body=hidden)
            ),
            "host named by Connection": Vector(request(b"Connection: host", body=marker)),
            "key named by Connection": Vector(request(b"Connection: authorization", body=marker)),
        }

    def list_transfer_codings(self) -> dict[str, Vector]:
        """Return transfer codings that are not exactly `chunked`; a length beside them hides the
        marker from a reader that ignores the coding.
        """
        request = self.request
        hidden = END + self.marker
        whole = b"Content-Length: %d" % len(hidden)
        list_header_fields = {
            "xchunked": b"Transfer-Encoding: xchunked",
            "chunkedx": b"Transfer-Encoding: chunkedx",
            "chunked twice": b"Transfer-Encoding: chunked, chunked",
            "chunked first": b"Transfer-Encoding: chunked, identity",
            "identity": b"Transfer-Encoding: identity",
            "identity first": b"Transfer-Encoding: identity, chunked",
            "gzip": b"Transfer-Encoding: gzip",
            "gzip first": b"Transfer-Encoding: gzip, chunked",
            "parameter": b"Transfer-Encoding: chunked;q=1",
            "quoted": b'Transfer-Encoding: "chunked"',
            "single quotes": b"Transfer-Encoding: 'chunked'",
            "vertical tab first": b"Transfer-Encoding: \x0bchunked",
            "vertical tab last": b"Transfer-Encoding: chunked\x0b",
            "form feed": b"Transfer-Encoding: \x0cchunked",
            "NUL": b"Transfer-Encoding: chunked\x00",
            "no-break space": b"Transfer-Encoding:\xa0chunked",
            "comma first": b"Transfer-Encoding: ,chunked",
            "comma last": b"Transfer-Encoding: chunked,",
            "empty": b"Transfer-Encoding:",
            "folded": b"Transfer-Encoding:\r\n chunked",
            "folded with a tab": b"Transfer-Encoding:\r\n\tchunked",
            "folded name": b"X-A: b\r\n Transfer-Encoding: chunked",
            "space before colon": b"Transfer-Encoding : chunked",
            "tab before colon": b"Transfer-Encoding\t: chunked",
            "space before name": b" Transfer-Encoding: chunked",
            "line feed before name": b"X-A: b\nTransfer-Encoding: chunked",
            "return before name": b"X-A: b\rTransfer-Encoding: chunked",
            "NUL in name": b"Transfer-Encoding\x00: chunked",
            "no colon": b"Transfer-Encoding chunked",
            "underscore": b"Transfer_Encoding: chunked",
            "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "two lines, identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "two lines, cow": b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
            "long s": "Transfer-Encoding: chunk\u0117d".encode(),
        }
        alone = {
            f"coding: {name}": Vector(request(field, body=END))
            for name, field in list_header_fields.items()
        }
        beside = {
            f"coding beside length: {name}": Vector(request(whole, field, body=hidden))
            for name, field in list_header_fields.items()
        }
        old = {
            "coding on HTTP/1.0": Vector(
                request(CHUNKED, line=b"POST /v1/files HTTP/1.0", body=hidden)
            ),
            "coding and length on HTTP/1.0": Vector(
                request(CHUNKED, whole, line=b"POST /v1/files HTTP/1.0", body=hidden)
            ),
            "coding on HTTP/1.0 that stays": Vector(
                request(
                    CHUNKED,
                    b"Connection: keep-alive",
                    line=b"POST /v1/files HTTP/1.0",
                    body=hidden,
                )
            ),
        }
        return alone | beside | old

    def list_chunk_framings(self) -> dict[str, Vector]:
        """Return chunks that are not framed as in RFC 9112 7.1."""
        bodies = {
            "17 digits": b"f" * 17 + b"\r\nabcde\r\n",
            "wraps to 5": b"10000000000000005\r\nabcde\r\n",
            "0x": b"0x5\r\nabcde\r\n",
            "minus": b"-5\r\nabcde\r\n",
            "plus": b"+5\r\nabcde\r\n",
            "space after": b"5 \r\nabcde\r\n",
            "tab after": b"5\t\r\nabcde\r\n",
            "space before": b" 5\r\nabcde\r\n",
            "empty size": b"\r\nabcde\r\n",
            "letter": b"g\r\nabcde\r\n",
            "underscore": b"0_5\r\nabcde\r\n",
            "comma": b"5,5\r\nabcde\r\n",
            "NUL after size": b"5\x00\r\nabcde\r\n",
            "line feed after size": b"5\nabcde\r\n",
            "return after size": b"5\rabcde\r\n",
            "returns after size": b"5\r\r\nabcde\r\n",
            "line feed after data": b"5\r\nabcde\n",
            "nothing after data": b"5\r\nabcde",
            "other bytes after data": b"5\r\nabcdeXX",
            "return after data": b"5\r\nabcde\r",
            "line feed in extension": b"5;a=b\nabcde\r\n",
            "return in extension": b"5;a=b\rX\r\nabcde\r\n",
            "NUL in extension": b"5;a=\x00\r\nabcde\r\n",
            "quoted line end in extension": b'5;a="\r\n"\r\nabcde\r\n',
            "long extension": b"5;a=" + b"b" * 600_000 + b"\r\nabcde\r\n",
            "bare semicolon": b"5;\r\nabcde\r\n",
            "space before extension": b"5 ;a=b\r\nabcde\r\n",
            "line feed at the end": b"5\r\nabcde\r\n0\n\r\n",
            "line feeds at the end": b"5\r\nabcde\r\n0\r\n\n",
        }
        found = {
            f"chunk: {name}": Vector(self.request(CHUNKED, body=body + END + self.marker))
            for name, body in bodies.items()
        }
        endless = b"f" * 16 + b"\r\nabcde\r\n" + END + self.marker
        found["chunk: 16 digits, never whole"] = Vector(self.request(CHUNKED, body=endless), 408)
        trailers = {
            "length": b"Content-Length: 5",
            "coding": b"Transfer-Encoding: chunked",
            "host": b"Host: evil.example",
            "key": b"Authorization: Bearer x",
            "other key": b"X-Api-Key: x",
            "connection": b"Connection: close",
            "folded": b"X-A: b\r\n c",
            "line feed": b"X-A: b\nX-C: d",
            "space before colon": b"X-A : b",
            "no colon": b"GET /v1/smuggled HTTP/1.1",
        }
        for name, field in trailers.items():
            body = b"5\r\nabcde\r\n0\r\n" + field + b"\r\n\r\n"
            found[f"trailer: {name}"] = Vector(self.request(CHUNKED, body=body + self.marker))
        return found

    def list_request_lines(self) -> dict[str, Vector]:
        """Return request lines and versions."""
        list_request_lines = {
            "HTTP/0.9": b"GET /v1/models",
            "version 0.9": b"GET /v1/models HTTP/0.9",
            "version 1.2": b"GET /v1/models HTTP/1.2",
            "version 1.9": b"GET /v1/models HTTP/1.9",
            "version 1.10": b"GET /v1/models HTTP/1.10",
            "version 01.1": b"GET /v1/models HTTP/01.1",
            "version 2.0": b"GET /v1/models HTTP/2.0",
            "version 2": b"GET /v1/models HTTP/2",
            "version 3.0": b"GET /v1/models HTTP/3.0",
            "version 1,1": b"GET /v1/models HTTP/1,1",
            "lower-case version": b"GET /v1/models http/1.1",
            "other protocol": b"GET /v1/models RTSP/1.0",
            "two spaces": b"GET  /v1/models HTTP/1.1",
            "two spaces before version": b"GET /v1/models  HTTP/1.1",
            "space after version": b"GET /v1/models HTTP/1.1 ",
            "tab": b"GET\t/v1/models HTTP/1.1",
            "tab before version": b"GET /v1/models\tHTTP/1.1",
            "space before method": b" GET /v1/models HTTP/1.1",
            "space in target": b"GET /v1/models x HTTP/1.1",
            "version in target": b"GET /v1/models HTTP/1.1 HTTP/1.1",
            "no target": b"GET HTTP/1.1",
            "relative target": b"GET v1/models HTTP/1.1",
            "control character in target": b"GET /v1/mod\x01els HTTP/1.1",
            "DEL in target": b"GET /v1/mod\x7fels HTTP/1.1",
            "NUL in target": b"GET /v1/mod\x00els HTTP/1.1",
            "line feed in target": b"GET /v1/mod\nels HTTP/1.1",
            "return in target": b"GET /v1/mod\rels HTTP/1.1",
            "raw byte in target": b"GET /v1/mod\xffels HTTP/1.1",
            "fragment": b"GET /v1/models#/../x HTTP/1.1",
            "lower-case method": b"get /v1/models HTTP/1.1",
            "unknown method": b"SMUGGLE /v1/models HTTP/1.1",
            "no token as method": b"G{T /v1/models HTTP/1.1",
            "NUL in method": b"G\x00ET /v1/models HTTP/1.1",
            "colon in method": b"GET: /v1/models HTTP/1.1",
            "asterisk": b"GET * HTTP/1.1",
            "other host in target": b"GET http://evil.example/v1/models HTTP/1.1",
            "no host in target": b"GET http:///v1/models HTTP/1.1",
            "user in target": b"GET http://localhost@evil.example/v1/models HTTP/1.1",
            "other scheme": b"GET ftp://localhost/v1/models HTTP/1.1",
        }
        return {
            f"line: {name}": Vector(self.request(line=line, body=self.marker))
            for name, line in list_request_lines.items()
        }

    def list_upgrade_offers(self) -> dict[str, Vector]:
        """Return offers to upgrade, which are ignored, beside a body of no clear length."""
        get = b"GET /v1/models HTTP/1.1"
        return {
            "offer, length and coding": Vector(
                self.request(*OFFER, b"Content-Length: 3", CHUNKED, body=END + self.marker)
            ),
            "offer and two lengths": Vector(
                self.request(
                    *OFFER, b"Content-Length: 0", b"Content-Length: 3", body=b"abc" + self.marker
                )
            ),
            "offer and a coding of old": Vector(
                self.request(
                    *OFFER, CHUNKED, line=b"POST /v1/files HTTP/1.0", body=END + self.marker
                )
            ),
            "offer and a body of a GET": Vector(
                self.request(*OFFER, b"Content-Length: 3", line=get, body=b"abc" + self.marker)
            ),
            "offer and a length named by Connection": Vector(
                self.request(
                    b"Connection: upgrade, content-length",
                    b"Upgrade: h2c",
                    b"Content-Length: 3",
                    body=b"abc" + self.marker,
                )
            ),
            "offer and a bad chunk": Vector(
                self.request(*OFFER, CHUNKED, body=b"0x3\r\nabc\r\n" + END + self.marker)
            ),
        }

    def list_other_protocols(self) -> dict[str, Vector]:
        """Return requests that leave HTTP/1.1, or have a body where none is expected."""
        get = b"GET /v1/models HTTP/1.1"
        return {
            "line: bare line feeds": Vector(
                self.request(line=get).replace(b"\r\n", b"\n") + self.marker
            ),
            "line: bare return": Vector(b"GET /v1/models HTTP/1.1\r" + self.request()[25:]),
            "HTTP/2 preface": Vector(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.marker),
            "CONNECT": Vector(
                self.request(line=b"CONNECT localhost:443 HTTP/1.1", body=self.marker), 501
            ),
            "CONNECT to a path": Vector(
                self.request(line=b"CONNECT /v1/models HTTP/1.1", body=self.marker), 501
            ),
            "upgrade to websocket": Vector(
                self.request(
                    b"Connection: Upgrade", b"Upgrade: websocket", line=get, body=self.marker
                ),
                426,
            ),
            "body of a GET": Vector(
                self.request(b"Content-Length: %d" % len(self.marker), line=get, body=self.marker)
            ),
            "chunks of a GET": Vector(
                self.request(CHUNKED, line=get, body=b"5\r\nabcde\r\n" + END + self.marker)
            ),
            "body of a HEAD": Vector(
                self.request(
                    b"Content-Length: %d" % len(self.marker),
                    line=b"HEAD /v1/models HTTP/1.1",
                    body=self.marker,
                )
            ),
            "Expect of something else": Vector(
                self.request(b"Expect: 200-ok", b"Content-Length: 5", body=b"abcde" + self.marker),
                417,
            ),
            "Expect of two things": Vector(
                self.request(
                    b"Expect: 100-continue, x",
                    b"Content-Length: 5",
                    body=b"abcde" + self.marker,
                ),
                417,
            ),
        }

    def list_header_fields(self) -> dict[str, Vector]:
        """Return malformed header fields, and fields that occur twice where one may be."""
        get = b"GET /v1/models HTTP/1.1"
        list_header_fields = {
            "empty name": b": b",
            "space in name": b"X A: b",
            "parenthesis in name": b"X(A): b",
            "slash in name": b"X/A: b",
            "raw byte in name": b"X\xff: b",
            "control character in name": b"X\x01: b",
            "no colon": b"X-A",
            "space before colon": b"X-A : b",
            "folded": b"X-A: b\r\n c",
            "folded with a tab": b"X-A: b\r\n\tc",
            "line feed": b"X-A: b\nX-C: d",
            "return": b"X-A: b\rX-C: d",
            "return at the end": b"X-A: b\r",
            "NUL": b"X-A: b\x00",
            "control character": b"X-A: b\x01",
            "DEL": b"X-A: b\x7f",
            "length with underscore": b"Content_Length: 5",
            "coding with underscore": b"X-A: b\r\nTransfer_Encoding: chunked",
        }
        found = {
            f"field: {name}": Vector(self.request(field, line=get, body=self.marker))
            for name, field in list_header_fields.items()
        }
        hosts = {
            "none": b"",
            "empty": b"Host:",
            "two": b"Host: localhost\r\nHost: localhost",
            "two different": b"Host: localhost\r\nHost: evil.example",
            "list": b"Host: localhost, evil.example",
            "path and query": b"Host: x/?z",
            "user": b"Host: evil@localhost",
            "space": b"Host: local host",
            "tab": b"Host: local\thost",
            "port of letters": b"Host: localhost:http",
            "port too large": b"Host: localhost:65536",
            "negative port": b"Host: localhost:-1",
            "two ports": b"Host: localhost:80:80",
            "open bracket": b"Host: [::1",
            "IPv6 without brackets": b"Host: ::1",
            "no IPv6 in brackets": b"Host: [localhost]",
            "backslash": b"Host: localhost\\evil",
            "fragment": b"Host: localhost#x",
            "percent": b"Host: local%00host",
            "raw byte": b"Host: localh\xf6st",
            "with underscore beside": b"Host: localhost\r\nHo\x00st: x",
            "space before colon": b"Host : localhost",
            "folded": b"Host:\r\n localhost",
            "whole address": b"Host: http://localhost/",
        }
        for name, host in hosts.items():
            found[f"host: {name}"] = Vector(self.request(line=get, host=host, body=self.marker))
        return found


def build(key: str) -> dict[str, Vector]:
    """Return all vectors by name, with the marker behind or inside each."""
    builder = Builder(key)
    return (
        builder.list_content_lengths()
        | builder.list_transfer_codings()
        | builder.list_chunk_framings()
        | builder.list_request_lines()
        | builder.list_other_protocols()
        | builder.list_upgrade_offers()
        | builder.list_header_fields()
    )


def build_marker(key: str) -> bytes:
    """Return the request that must not be served."""
    return Builder(key).marker
