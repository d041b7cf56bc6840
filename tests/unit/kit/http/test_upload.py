"""What an upload writes, byte for byte, and that it closes its source."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headgate.kit.http.upload import upload

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


class Source:
    """Pieces one after the other; `closed` when it was closed."""

    def __init__(self, *pieces: bytes, fault: Exception | None = None) -> None:
        self.closed = False
        self._pieces = pieces
        self._fault = fault

    async def run(self) -> AsyncIterator[bytes]:
        try:
            for piece in self._pieces:
                yield piece
            if self._fault is not None:
                raise self._fault
        finally:
            self.closed = True


async def write_all(source: Source, content_length: int | None) -> list[bytes]:
    written: list[bytes] = []
    await write_to(written, source, content_length)
    return written


async def write_to(written: list[bytes], source: Source, content_length: int | None) -> None:
    async def write(data: bytes) -> None:
        written.append(data)

    await upload(source.run(), content_length, write)


async def test_body_of_unknown_length_is_written_in_chunks_without_an_empty_one() -> None:
    source = Source(b"a", b"", b"b" * 26)
    assert await write_all(source, None) == [
        b"1\r\na\r\n",
        b"1a\r\n" + b"b" * 26 + b"\r\n",
        b"0\r\n\r\n",
    ]
    assert source.closed
    assert await write_all(Source(), None) == [b"0\r\n\r\n"]


async def test_body_of_an_announced_length_is_written_as_it_is() -> None:
    source = Source(b"abc", b"", b"de")
    assert await write_all(source, 5) == [b"abc", b"", b"de"]
    assert source.closed
    assert await write_all(Source(), 0) == []


@pytest.mark.parametrize(("announced", "written"), [(4, [b"abc"]), (2, []), (6, [b"abc", b"de"])])
async def test_body_of_another_length_is_refused_before_a_byte_too_many(
    announced: int, written: list[bytes]
) -> None:
    source = Source(b"abc", b"de")
    heard: list[bytes] = []
    with pytest.raises(ValueError, match="body") as refused:
        await write_to(heard, source, announced)
    assert str(refused.value) == f"The body does not have the {announced} bytes announced."
    assert heard == written
    assert source.closed


@pytest.mark.parametrize("content_length", [None, 3])
async def test_fault_of_the_source_is_raised_and_no_end_is_written(
    content_length: int | None,
) -> None:
    source = Source(b"abc", fault=LookupError("lost"))
    heard: list[bytes] = []
    with pytest.raises(LookupError, match="lost"):
        await write_to(heard, source, content_length)
    assert heard == [b"3\r\nabc\r\n" if content_length is None else b"abc"]


async def test_source_is_closed_when_nothing_can_be_written() -> None:
    source = Source(b"abc", b"de")

    async def write(data: bytes) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await upload(source.run(), None, write)
    assert source.closed


async def test_iterator_that_cannot_be_closed_is_uploaded_all_the_same() -> None:
    class Bare:
        left = 2

        def __aiter__(self) -> Bare:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"x"

    written: list[bytes] = []

    async def write(data: bytes) -> None:
        written.append(data)

    await upload(Bare(), 2, write)
    assert written == [b"x", b"x"]
