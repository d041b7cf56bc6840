from __future__ import annotations

import pytest

from headgate.kit.http.head import KNOWN_MAX, HeadWriter, ends_with_connection
from headgate.kit.http.message import Headers, Origin, Request, Timeouts

ORIGIN = Origin("https", "api.example.com", 443)


async def no_body():
    yield b""


def request(
    *,
    method: bytes = b"POST",
    target: bytes = b"/v1/x",
    headers: Headers | None = None,
    body: bytes = b"{}",
) -> Request:
    return Request(ORIGIN, method, target, headers or [], body, Timeouts())


def test_head_of_a_request_with_bytes() -> None:
    head = HeadWriter(ORIGIN).write(request(headers=[(b"accept", b"*/*"), (b"x-a", b"")]))
    assert head == (
        b"POST /v1/x HTTP/1.1\r\nhost: api.example.com\r\naccept: */*\r\nx-a: \r\n"
        b"content-length: 2\r\n\r\n"
    )


def test_empty_body_is_announced_only_where_one_is_expected() -> None:
    writer = HeadWriter(ORIGIN)
    assert b"content-length: 0\r\n" in writer.write(request(body=b""))
    assert b"content-length" not in writer.write(request(method=b"GET", body=b""))


def test_iterated_body_is_chunked_unless_its_length_is_known() -> None:
    def stream(content_length: int | None) -> Request:
        return Request(ORIGIN, b"POST", b"/", [], no_body(), Timeouts(), content_length)

    writer = HeadWriter(ORIGIN)
    assert writer.write(stream(None)).endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n")
    assert writer.write(stream(7)).endswith(b"\r\ncontent-length: 7\r\n\r\n")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("http", "a.test", 80), b"a.test"),
        (Origin("http", "a.test", 443), b"a.test:443"),
        (Origin("https", "::1", 8443), b"[::1]:8443"),
    ],
)
def test_host_names_the_port_only_if_it_is_unusual(origin: Origin, host: bytes) -> None:
    assert b"\r\nhost: " + host + b"\r\n" in HeadWriter(origin).write(request())


@pytest.mark.parametrize("host", ["", "a b", "a\r\nx: y", "user@a", "a/b", "ä.test"])
def test_impossible_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"host|ascii"):
        HeadWriter(Origin("http", host, 80))


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match="scheme"):
        HeadWriter(Origin("ftp", "a.test", 21))


@pytest.mark.parametrize(
    "field",
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\n"),
        (b"x-a", b"\r"),
        (b"x-a", b"\0"),
        (b"x\r\n", b"1"),
        (b"x:y", b"1"),
        (b"x y", b"1"),
        (b"", b"1"),
        (b"Host", b"b.test"),
        (b"host", b"b.test"),
        (b"content-length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
    ],
)
def test_field_that_could_break_out_or_contradict_is_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="header"):
        HeadWriter(ORIGIN).write(request(headers=[field]))


@pytest.mark.parametrize(
    "target", [b"", b"v1", b"http://b.test/", b"/a b", b"/a\r\nx: y", b"/\n", b"/\0"]
)
def test_target_that_is_no_path_is_refused(target: bytes) -> None:
    with pytest.raises(ValueError, match="target"):
        HeadWriter(ORIGIN).write(request(target=target))


@pytest.mark.parametrize("method", [b"", b"GET /", b"GET\r\n", b"GE T"])
def test_method_that_is_no_word_is_refused(method: bytes) -> None:
    with pytest.raises(ValueError, match="method"):
        HeadWriter(ORIGIN).write(request(method=method))


def test_remembered_head_is_never_taken_for_another() -> None:
    writer = HeadWriter(ORIGIN)
    for number in range(KNOWN_MAX + 2):
        headers = [(b"x-number", b"%d" % number)]
        for _ in range(2):
            assert b"x-number: %d\r\n" % number in writer.write(request(headers=headers))
    assert writer.write(request()).startswith(b"POST /v1/x ")
    assert writer.write(request(method=b"PUT")).startswith(b"PUT /v1/x ")
    assert writer.write(request(target=b"/v1/y")).startswith(b"POST /v1/y ")


@pytest.mark.parametrize(
    ("headers", "lasts"),
    [
        ([], True),
        ([(b"content-length", b"3")], False),
        ([(b"transfer-encoding", b"gzip, Chunked")], False),
        ([(b"transfer-encoding", b"gzip")], True),
    ],
)
def test_body_without_a_length_lasts_until_the_peer_closes(headers: Headers, lasts: bool) -> None:
    assert ends_with_connection(headers) is lasts


class Fields(list[tuple[bytes, bytes]]):
    """Headers that count how often somebody goes through them."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def count_walks(writer: HeadWriter, number: int) -> int:
    fields = Fields([(b"x-number", b"%d" % number)])
    head = writer.write(request(headers=fields))
    assert b"\r\nx-number: %d\r\ncontent-length: 2\r\n\r\n" % number in head
    return fields.walks


def test_head_is_checked_once_and_again_after_it_was_forgotten() -> None:
    writer = HeadWriter(ORIGIN)
    first = count_walks(writer, 0)
    assert count_walks(writer, 0) < first
    writer.forget()
    assert count_walks(writer, 0) == first


def test_as_many_heads_are_remembered_as_allowed_and_no_more() -> None:
    writer = HeadWriter(ORIGIN)
    first = count_walks(writer, 0)
    for number in range(1, KNOWN_MAX):
        assert count_walks(writer, number) == first
    assert count_walks(writer, 0) < first
    assert count_walks(writer, KNOWN_MAX) == first
    assert count_walks(writer, 0) == first


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
def test_head_without_a_body_ends_with_an_empty_line(method: bytes) -> None:
    head = HeadWriter(ORIGIN).write(request(method=method, body=b"", headers=[(b"a", b"b")]))
    assert head == method + b" /v1/x HTTP/1.1\r\nhost: api.example.com\r\na: b\r\n\r\n"


def test_letter_x_is_a_letter_as_any_other() -> None:
    head = HeadWriter(Origin("http", "X.test", 80)).write(request(target=b"/XX", body=b"{}"))
    assert head.startswith(b"POST /XX HTTP/1.1\r\nhost: X.test\r\n")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request(method=b"GE T"), "The method is not a word."),
        (request(target=b"v1"), "The target is not a path without spaces and line breaks."),
        (
            request(headers=[(b"Host", b"")]),
            "A header's name is not a token in lower case.",
        ),
        (request(headers=[(b"host", b"")]), "The header host is set by the client."),
        (request(headers=[(b"a", b"\n")]), "The header a holds a line break or a NUL."),
    ],
)
def test_refused_head_says_what_is_wrong(bad: Request, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        HeadWriter(ORIGIN).write(bad)
    assert str(refused.value) == message
